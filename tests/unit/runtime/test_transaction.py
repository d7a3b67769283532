from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock

from mesh import Agent, Context
from mesh.agent.decisions import Decisions
from mesh.agent.state import State
from mesh.contract.cloudevents import MSG_ID, CloudEvent, read_headers
from mesh.contract.ids import output_id
from mesh.runtime.incoming import Incoming
from mesh.runtime.transaction import build
from mesh.v1.decision_pb2 import Decision

CAUSE = CloudEvent("e1", "/erp", "shop.v1.OrderPlaced", "order/7", "root", hops=2)
STORED = {"full": (Stock(shelf_id="full", reserved=9).SerializeToString(), 40)}
ANSWER = OrderAccepted(order_id="7")


class Handled:
    """A handling of order 7 by an agent that emits the given types."""

    def __init__(self, names, tracing, *emits):
        agent = Agent("seller")
        agent.on(OrderPlaced, emits=emits)(self._handle)
        [handler] = agent.handlers
        self._names, self._tracing = names, tracing
        self._incoming = Incoming(handler, CAUSE, OrderPlaced(order_id="7"), "7", 0)
        self.ctx = Context(
            agent="seller",
            handler=handler,
            event=CAUSE,
            key="7",
            attempt=1,
            deadline=datetime.now(UTC),
            resources=None,
            state=State(handler.event.domain, self._read_state),
            decisions=Decisions("seller", CAUSE, "order/7", self._read_decisions),
            steps=None,
        )

    def _handle(self, event, ctx): ...

    async def _read_state(self, kind, key):
        return STORED.get(key, (None, 0))

    async def _read_decisions(self, question, entity):
        return ([Decision(id="d0", choice="no")], 50) if question == "old" else ([], 0)

    def commit(self):
        with ExitStack() as spans:
            return build(self._names, self._incoming, self.ctx, self._tracing, spans)


@pytest.fixture
def handled(names, tracing):
    return lambda *emits: Handled(names, tracing, *emits)


def subjects(transaction):
    return [write.subject.removeprefix("mesh.shop.") for write in transaction.writes]


def conditions(transaction):
    """What each write expects, as {subject: sequence}."""
    expected = [(w.expect_subject or w.subject, w.expect) for w in transaction.writes if w.expect is not None]
    assert len(dict(expected)) == len(expected)
    return {subject.removeprefix("mesh.shop."): sequence for subject, sequence in expected}


async def test_a_handling_that_did_nothing_commits_nothing(handled):
    handling = handled(OrderAccepted)
    await handling.ctx.state.get(Stock, "full")
    await handling.ctx.decisions("old")

    transaction = handling.commit()

    assert (transaction.writes, transaction.forwards) == ([], [])


def test_one_output_under_the_key_of_its_input_proves_the_commit_by_itself(handled):
    handling = handled(OrderAccepted)
    handling.ctx.emit(ANSWER)

    [write] = handling.commit().writes

    assert (write.subject, write.data) == ("mesh.shop.evt.order_accepted.7", ANSWER.SerializeToString())
    assert (write.expect, write.expect_subject) == (None, None)


def test_an_output_carries_its_descent_in_its_headers(handled):
    handling = handled(OrderAccepted)
    handling.ctx.emit(ANSWER)

    [write] = handling.commit().writes
    event = read_headers(write.headers, fallback_id="")

    assert (event.id, event.source) == (output_id("/erp", "e1", "seller", 0), "/agents/seller")
    assert (event.type, event.subject) == ("shop.v1.OrderAccepted", "order/7")
    assert (event.causation_id, event.correlation_id, event.hops) == ("e1", "root", 3)
    assert event.trace == {"traceparent": "of shop.order_accepted"}
    assert write.headers[MSG_ID] == f"order_accepted:{event.id}"


@pytest.mark.parametrize(
    ("emits", "outputs"),
    [
        ([OrderAccepted], [OrderAccepted(order_id="8")]),
        ([OrderAccepted, OrderRefused], [ANSWER]),
        ([OrderAccepted, PackOrder], [ANSWER, PackOrder(order_id="7")]),
    ],
    ids=["another key", "one of two types", "two types"],
)
def test_outputs_that_a_later_run_might_not_repeat_are_proven_by_a_record(handled, emits, outputs):
    handling = handled(*emits)
    handling.ctx.emit_all(outputs)

    transaction = handling.commit()

    assert subjects(transaction)[-1] == "done.seller.7"
    assert len(transaction.writes) == len(outputs) + 1
    record = read_headers(transaction.writes[-1].headers, fallback_id="")
    assert (transaction.writes[-1].data, record.causation_id, record.type) == (b"", "e1", "mesh.done")


def test_the_same_handling_makes_the_same_messages(handled):
    def ids(*outputs):
        handling = handled(OrderAccepted, PackOrder)
        handling.ctx.emit_all(outputs)
        return [write.headers[MSG_ID] for write in handling.commit().writes]

    once = ids(ANSWER, PackOrder(order_id="7"))

    assert once == ids(OrderAccepted(order_id="7", quantity=5), PackOrder(order_id="8"))
    assert len(set(once)) == 3
    assert all(UUID(text.partition(":")[2]).version == 8 for text in once)


async def test_state_alone_is_proven_by_a_record_that_comes_first(handled):
    handling = handled()
    await handling.ctx.state.put(Stock(shelf_id="full", reserved=10))

    transaction = handling.commit()
    record, state = transaction.writes

    assert subjects(transaction) == ["done.seller.7", "state.stock.full"]
    assert MSG_ID in record.headers
    assert Stock.FromString(state.data).reserved == 10
    assert state.headers == {"Nats-Rollup": "sub", "ce-type": "shop.v1.Stock", "Nats-TTL": "never"}
    assert (state.expect, state.expect_subject) == (40, None)


async def test_new_state_expects_that_there_is_none(handled):
    handling = handled()
    await handling.ctx.state.put(Stock(shelf_id="new"))

    assert conditions(handling.commit()) == {"state.stock.new": 0}


async def test_deleted_state_leaves_a_tombstone_that_expires(handled):
    handling = handled()
    await handling.ctx.state.delete(Stock, "full")

    [_, tombstone] = handling.commit().writes

    assert (tombstone.subject, tombstone.data, tombstone.expect) == ("mesh.shop.state.stock.full", b"", 40)
    assert tombstone.headers["Nats-TTL"] == "1s"
    assert tombstone.headers["Nats-Rollup"] == "sub"


async def test_what_was_only_read_is_guarded_by_an_output(handled):
    handling = handled(OrderAccepted)
    await handling.ctx.state.get(Stock, "full")
    handling.ctx.emit(ANSWER)

    [write] = handling.commit().writes

    assert (write.subject, write.expect) == ("mesh.shop.evt.order_accepted.7", 40)
    assert write.expect_subject == "mesh.shop.state.stock.full"


async def test_more_reads_than_outputs_are_guarded_by_records_of_their_own(handled):
    handling = handled(OrderAccepted)
    for key in ("full", "a", "b"):
        await handling.ctx.state.get(Stock, key)
    handling.ctx.emit(ANSWER)

    transaction = handling.commit()

    assert subjects(transaction) == ["evt.order_accepted.7", "done.seller.7", "done.seller.7"]
    assert conditions(transaction) == {"state.stock.full": 40, "state.stock.a": 0, "state.stock.b": 0}
    assert len({write.headers[MSG_ID] for write in transaction.writes}) == 3


def test_an_output_into_another_domain_is_committed_at_home_and_then_forwarded(handled):
    handling = handled(InvoiceRequested)
    invoice = InvoiceRequested(invoice_number=70)
    handling.ctx.emit(invoice)

    transaction = handling.commit()
    [forward] = transaction.forwards

    assert subjects(transaction) == ["out.billing.invoice_requested.70", "done.seller.7"]
    assert (forward.stream, forward.write.subject) == ("MESH_BILLING", "mesh.billing.evt.invoice_requested.70")
    assert forward.write.data == transaction.writes[0].data == invoice.SerializeToString()
    assert forward.write.headers == transaction.writes[0].headers
    assert forward.write.expect is None


async def test_a_decision_is_kept_for_ever_and_expects_to_follow_the_last_one(handled):
    handling = handled()
    taken = await handling.ctx.decide("old", "yes", because="of this")

    transaction = handling.commit()
    [_, decision] = transaction.writes

    assert subjects(transaction) == ["done.seller.7", "dec.old.order.7"]
    assert Decision.FromString(decision.data) == taken
    assert (decision.expect, decision.headers["Nats-TTL"]) == (50, "never")
    assert read_headers(decision.headers, fallback_id="").causation_id == "e1"


async def test_a_decision_that_was_only_read_is_guarded(handled):
    handling = handled(OrderAccepted)
    await handling.ctx.decisions("old")
    handling.ctx.emit(ANSWER)

    assert conditions(handling.commit()) == {"dec.old.order.7": 50}


ACTIONS = st.lists(st.tuples(st.sampled_from(["emit", "send", "get", "put", "delete", "ask", "decide"]), st.integers(0, 5)))


@given(ACTIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_commit_validates_all_that_was_read_and_starts_with_an_id(handled, actions):
    handling = handled(OrderAccepted, InvoiceRequested)
    ctx, read, answered = handling.ctx, set(), count()
    for action, key in actions:
        match action:
            case "emit":
                ctx.emit(OrderAccepted(order_id=f"{key + next(answered)}"))
            case "send":
                ctx.emit(InvoiceRequested(invoice_number=key))
            case "get":
                await ctx.state.get(Stock, key)
            case "put":
                await ctx.state.put(Stock(shelf_id=f"{key}"))
            case "delete":
                await ctx.state.delete(Stock, key)
            case "ask":
                await ctx.decisions(f"q{key}")
            case "decide" if not any(t.taken for t in ctx.decided.threads if t.question == f"q{key}"):
                await ctx.decide(f"q{key}", "yes", because="")
        if action in ("get", "put", "delete"):
            read.add(f"state.stock.{key}")
        if action in ("ask", "decide"):
            read.add(f"dec.q{key}.order.7")

    transaction = handling.commit()

    if transaction.writes:
        identified = [MSG_ID in write.headers for write in transaction.writes]
        ids = [write.headers[MSG_ID] for write in transaction.writes if MSG_ID in write.headers]
        assert identified == sorted(identified, reverse=True)
        assert identified[0]
        assert len(ids) == len(set(ids))
        assert set(conditions(transaction)) == read
    else:
        assert not ctx.outputs
