from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock

from mesh import Agent
from mesh.contract.cloudevents import MSG_ID, CloudEvent, read_headers
from mesh.contract.ids import output_id
from mesh.runtime.execution import Execution
from mesh.runtime.incoming import Incoming
from mesh.runtime.journal import Journal
from mesh.runtime.ports import Write
from mesh.runtime.transaction import build
from mesh.v1.decision_pb2 import Decision

CAUSE = CloudEvent("e1", "/erp", "shop.v1.OrderPlaced", "order/7", "root", hops=2)
STORED = [
    Write("mesh.shop.state.stock.full", Stock(shelf_id="full", reserved=9).SerializeToString()),
    Write("mesh.shop.dec.old.order.7", Decision(id="d0", choice="no").SerializeToString()),
]
"""What lies in the stream before, with the sequences 1 and 2."""
ANSWER = OrderAccepted(order_id="7")


class Handled:
    """A handling of order 7, and what its commit would be."""

    def __init__(self, environment, incoming, ctx):
        self.ctx = ctx
        self._environment = environment
        self._incoming = incoming

    def commit(self):
        with ExitStack() as spans:
            return build(self._environment.namespace, self._incoming, self.ctx, self._environment.tracing, spans)


@pytest.fixture
def handled(environment):
    """Begins a handling by an agent that emits the given types, on streams of its own."""

    async def begin(*emits):
        env = replace(environment, log=type(environment.log)())
        await env.log.commit("MESH_SHOP", STORED)
        agent = Agent("seller")
        agent.on(OrderPlaced, emits=emits)(lambda event, ctx: None)
        [handler] = agent.handlers
        incoming = Incoming(handler, CAUSE, OrderPlaced(order_id="7"), "7", 0, 1)
        journal = Journal(env.log, env.namespace, "seller", "e1", is_new=True)
        return Handled(env, incoming, Execution(env, agent, None)._context(incoming, journal))

    return begin


def subjects(transaction):
    return [write.subject.removeprefix("mesh.shop.") for write in transaction.writes]


def conditions(transaction):
    """What each write expects, as {subject: sequence}."""
    expected = [(w.expect_subject or w.subject, w.expect) for w in transaction.writes if w.expect is not None]
    assert len(dict(expected)) == len(expected)
    return {subject.removeprefix("mesh.shop."): sequence for subject, sequence in expected}


async def test_a_handling_that_did_nothing_commits_nothing(handled):
    handling = await handled(OrderAccepted)
    await handling.ctx.state.get(Stock, "full")
    await handling.ctx.decisions("old")

    transaction = handling.commit()

    assert (transaction.writes, transaction.forwards) == ([], [])


async def test_one_output_under_the_key_of_its_input_proves_the_commit_by_itself(handled):
    handling = await handled(OrderAccepted)
    handling.ctx.emit(ANSWER)

    [write] = handling.commit().writes

    assert (write.subject, write.data) == ("mesh.shop.evt.order_accepted.7", ANSWER.SerializeToString())
    assert (write.expect, write.expect_subject) == (None, None)


async def test_an_output_carries_its_descent_in_its_headers(handled):
    handling = await handled(OrderAccepted)
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
async def test_outputs_that_a_later_run_might_not_repeat_are_proven_by_a_record(handled, emits, outputs):
    handling = await handled(*emits)
    handling.ctx.emit_all(outputs)

    transaction = handling.commit()

    assert subjects(transaction)[-1] == "done.seller.7"
    assert len(transaction.writes) == len(outputs) + 1
    record = read_headers(transaction.writes[-1].headers, fallback_id="")
    assert (transaction.writes[-1].data, record.causation_id, record.type) == (b"", "e1", "mesh.done")


async def test_the_same_handling_makes_the_same_messages(handled):
    async def ids(*outputs):
        handling = await handled(OrderAccepted, PackOrder)
        handling.ctx.emit_all(outputs)
        return [write.headers[MSG_ID] for write in handling.commit().writes]

    once = await ids(ANSWER, PackOrder(order_id="7"))

    assert once == await ids(OrderAccepted(order_id="7", quantity=5), PackOrder(order_id="8"))
    assert len(set(once)) == 3
    assert all(UUID(text.partition(":")[2]).version == 8 for text in once)


async def test_state_alone_is_proven_by_a_record_that_comes_first(handled):
    handling = await handled()
    await handling.ctx.state.put(Stock(shelf_id="full", reserved=10))

    transaction = handling.commit()
    record, state = transaction.writes

    assert subjects(transaction) == ["done.seller.7", "state.stock.full"]
    assert MSG_ID in record.headers
    assert Stock.FromString(state.data).reserved == 10
    assert (state.headers["Nats-Rollup"], state.headers["Nats-TTL"]) == ("sub", "never")
    assert (state.headers["ce-type"], state.headers["ce-subject"]) == ("shop.v1.Stock", "shelf/full")
    assert (state.headers["ce-source"], state.headers["ce-causationid"]) == ("/agents/seller", CAUSE.id)
    assert MSG_ID not in state.headers
    assert (state.expect, state.expect_subject) == (1, None)


async def test_new_state_expects_that_there_is_none(handled):
    handling = await handled()
    await handling.ctx.state.put(Stock(shelf_id="new"))

    assert conditions(handling.commit()) == {"state.stock.new": 0}


async def test_deleted_state_leaves_a_tombstone_that_expires(handled):
    handling = await handled()
    await handling.ctx.state.delete(Stock, "full")

    [_, tombstone] = handling.commit().writes

    assert (tombstone.subject, tombstone.data, tombstone.expect) == ("mesh.shop.state.stock.full", b"", 1)
    assert (tombstone.headers["Nats-TTL"], tombstone.headers["KV-Operation"]) == ("1s", "DEL")
    assert tombstone.headers["Nats-Rollup"] == "sub"


async def test_what_was_only_read_is_guarded_by_an_output(handled):
    handling = await handled(OrderAccepted)
    await handling.ctx.state.get(Stock, "full")
    handling.ctx.emit(ANSWER)

    [write] = handling.commit().writes

    assert (write.subject, write.expect) == ("mesh.shop.evt.order_accepted.7", 1)
    assert write.expect_subject == "mesh.shop.state.stock.full"


async def test_more_reads_than_outputs_are_guarded_by_records_of_their_own(handled):
    handling = await handled(OrderAccepted)
    for key in ("full", "a", "b"):
        await handling.ctx.state.get(Stock, key)
    handling.ctx.emit(ANSWER)

    transaction = handling.commit()

    assert subjects(transaction) == ["evt.order_accepted.7", "done.seller.7", "done.seller.7"]
    assert conditions(transaction) == {"state.stock.full": 1, "state.stock.a": 0, "state.stock.b": 0}
    assert len({write.headers[MSG_ID] for write in transaction.writes}) == 3


async def test_an_output_into_another_domain_is_committed_at_home_and_then_forwarded(handled):
    handling = await handled(InvoiceRequested)
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
    handling = await handled()
    taken = await handling.ctx.decide("old", "yes", because="of this")

    transaction = handling.commit()
    [_, decision] = transaction.writes

    assert subjects(transaction) == ["done.seller.7", "dec.old.order.7"]
    assert Decision.FromString(decision.data) == taken
    assert (decision.expect, decision.headers["Nats-TTL"]) == (2, "never")
    assert read_headers(decision.headers, fallback_id="").causation_id == "e1"


async def test_a_decision_that_was_only_read_is_guarded(handled):
    handling = await handled(OrderAccepted)
    await handling.ctx.decisions("old")
    handling.ctx.emit(ANSWER)

    assert conditions(handling.commit()) == {"dec.old.order.7": 2}


async def test_a_claim_fences_the_commit_and_ends_with_it(handled):
    handling = await handled(OrderAccepted)
    async with handling.ctx.claim("angle/economy"):
        pass
    handling.ctx.emit(ANSWER)

    [_, release] = handling.commit().writes

    assert (release.subject, release.data, release.expect) == ("mesh.shop.claim.angle%2Feconomy", b"", 3)
    assert release.headers["KV-Operation"] == "DEL"


async def act(ctx, action, key):
    """Does one thing in a handling and gives the subject that it read, if any."""
    match action:
        case "emit":
            ctx.emit(OrderAccepted(order_id=f"{key}"))
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
        return f"state.stock.{key}"
    return f"dec.q{key}.order.7" if action in ("ask", "decide") else None


ACTIONS = st.sampled_from(["emit", "send", "get", "put", "delete", "ask", "decide"])


@given(st.lists(st.tuples(ACTIONS, st.integers(0, 5))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_commit_validates_all_that_was_read_and_starts_with_an_id(handled, actions):
    handling = await handled(OrderAccepted, InvoiceRequested)
    read = {await act(handling.ctx, action, key) for action, key in actions}

    transaction = handling.commit()

    if transaction.writes:
        identified = [MSG_ID in write.headers for write in transaction.writes]
        ids = [write.headers[MSG_ID] for write in transaction.writes if MSG_ID in write.headers]
        assert identified == sorted(identified, reverse=True)
        assert identified[0]
        assert len(ids) == len(set(ids))
        assert conditions(transaction).keys() == read - {None}
    else:
        assert not handling.ctx.outputs
