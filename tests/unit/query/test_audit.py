"""The counting of the audit, fed with headers."""

from datetime import UTC, datetime, timedelta

import pytest

from mesh.contract.cloudevents import CloudEvent
from mesh.contract.namespace import Namespace
from mesh.query.audit import report
from mesh.query.ledger import Extent, Ledger
from mesh.query.tally import Progress, Tallies, Tally
from mesh.query.violation import Invariant, Violation
from mesh.runtime.ports import Stored
from mesh.v1.decision_pb2 import Decision

NAMES = Namespace("mesh")
START = datetime(2026, 11, 1, tzinfo=UTC)
AGED = {"first": 5, "created": START - timedelta(days=90)}
"""Of a stream that has lost what was stored before `START`."""


class Book:
    """A ledger with the shorthands that tests want; each message comes a second after the one before."""

    def __init__(self, domain="shop", *, durables=(), **extent):
        whole = {"first": 1, "last": 10**6, "created": START, "limit": START - timedelta(seconds=1)}
        self.ledger = Ledger(
            NAMES, domain, ("shop", "billing"), Extent(NAMES.stream(domain), **whole | extent), Tallies(durables)
        )
        self.domain, self.sequence = domain, 0

    def _take(self, below, event, batch=""):
        self.sequence += 1
        headers = {"Nats-Batch-Id": batch} if batch else {}
        time = START + timedelta(seconds=self.sequence)
        self.ledger.take(Stored(f"mesh.{self.domain}.{below}", b"", headers, self.sequence, time), event)
        return self.sequence

    def event(self, event_id, name="order_placed", kind="evt", root=""):
        return self._take(f"{kind}.{name}.7", CloudEvent(event_id, "/clients", "", "order/7", root or event_id))

    def effect(self, event_id, cause, below="evt.order_accepted.7", *, agent="clerk", batch="", root="root"):
        event = CloudEvent(event_id, f"/agents/{agent}", "", "order/7", root, causation_id=cause)
        return self._take(below, event, batch)

    def due(self, event_id, cause):
        return self.effect(event_id, cause, f"due.clerk.{event_id}")

    def redo(self, event_id, agent="clerk"):
        return self._take(f"redo.{agent}.order_placed.7", CloudEvent(event_id, "/clients", "", "", event_id))

    def decision(self, event_id, overrides, question="discount"):
        self.sequence += 1
        decision = Decision(id=event_id, overrides=overrides)
        subject = NAMES.decision(self.domain, question, "order/7")
        headers = {"ce-id": event_id}
        self.ledger.take_decision(Stored(subject, decision.SerializeToString(), headers, self.sequence, START))

    def violations(self, *others):
        found = report(self.ledger, [self.ledger, *(other.ledger for other in others)])
        return [(violation.invariant.value, violation.place.rpartition(":")[2]) for violation in found.violations]

    def tally(self, agent="clerk"):
        (found,) = [t for t in report(self.ledger, [self.ledger]).agents if t.agent == agent]
        return found


def durable(agent="clerk", *names, start=None, **progress):
    """The consumer of an agent that is done with everything."""
    filters = [subject for name in names or ["order_placed"] for subject in _filters(agent, name)]
    idle = {"floor": 10**6, "delivered": 10**6, "deliveries": 10**6, "unsettled": 0, "waiting": 0}
    return Progress(agent, filters, start, **idle | progress)


def _filters(agent, name):
    return [NAMES.every("shop", "evt", name), NAMES.every("shop", "cmd", name), NAMES.every_redo("shop", agent, name)]


def test_a_handling_whose_effects_share_a_batch_is_one_commit():
    book = Book()
    book.event("a")
    book.event("b")
    book.effect("a0", "a", batch="x")
    book.effect("a1", "a", "done.clerk.7", batch="x")
    book.effect("b0", "b", batch="x")
    book.effect("b1", "b", "dec.discount.order.7", batch="x")

    assert book.violations() == []


@pytest.mark.parametrize(("first", "second"), [("x", "y"), ("x", ""), ("", "x"), ("", "")])
def test_effects_in_different_batches_are_two_commits_of_which_the_second_is_named_once(first, second):
    book = Book()
    book.event("a")
    book.effect("a0", "a", batch=first)
    again = book.effect("a1", "a", "done.clerk.7", batch=second)
    if second:
        book.effect("a2", "a", "dec.discount.order.7", batch=second)

    assert book.violations() == [("double_commit", str(again))]
    assert book.ledger.suspects[0][0] == Violation(
        Invariant.DOUBLE_COMMIT, f"MESH_SHOP:{again}", "a1", "clerk had committed a at MESH_SHOP:2"
    )


def test_two_agents_may_commit_the_same_event():
    book = Book()
    book.event("a")
    book.effect("a0", "a", agent="clerk")
    book.effect("a1", "a", agent="auditor")

    assert book.violations() == []
    assert (book.tally("clerk").answered, book.tally("auditor").answered) == (1, 1)


def test_what_a_timer_published_is_no_second_commit():
    book = Book()
    book.event("a")
    book.effect("a1", "a", "done.clerk.7", batch="x")
    book.due("a0", "a")
    book.effect("a0", "a")

    assert book.violations() == []


def test_an_input_that_has_aged_out_is_not_said_to_be_committed_twice():
    book = Book(**AGED)
    book.effect("a1", "a", "dec.discount.order.7", batch="x")
    book.effect("a0", "a")  # by a timer, whose message has aged out too

    assert book.violations() == []


def test_where_events_share_an_id_nothing_is_said_about_commits_and_commands():
    shop, billing = Book(), Book("billing")
    shop.event("7", "order_placed")
    shop.event("7", "pack_order", kind="cmd")
    shop.effect("70", "7", agent="clerk")
    shop.effect("71", "7", agent="clerk")
    shop.effect("72", "7", agent="packer")
    billing.event("8", "invoice_requested")
    shop.event("8")
    shop.effect("80", "8", "evt.order_accepted.8")
    shop.effect("81", "8", "evt.order_refused.8")

    assert shop.violations(billing) == []


def test_an_id_is_found_again_in_one_type_only():
    book = Book()
    book.event("a", "order_placed")
    book.event("a", "order_accepted")
    twin = book.event("a", "order_accepted")
    book.redo("a")

    assert book.violations() == [("duplicate_id", str(twin))]
    assert book.ledger.events == 3


def test_in_a_log_that_is_whole_every_cause_is_missed():
    book = Book()
    book.effect("x", "nobody", root="x")
    lost = book.effect("y", "nobody", "dead.clerk.order_placed.7", root="nobody")

    assert book.violations() == [("orphan_cause", "1"), ("orphan_cause", str(lost))]


def test_a_cause_may_lie_in_any_domain_be_redriven_or_be_a_tick():
    shop, billing = Book(), Book("billing")
    billing.effect("from-shop", "a")
    shop.event("a")
    shop.redo("b")
    shop.effect("b0", "b")
    shop._take("tick.clerk.nightly", CloudEvent("c", "", "", "", "c"))
    shop.effect("c0", "c")

    assert billing.violations(shop) == shop.violations(billing) == []
    assert shop.tally().answered == 2


def test_what_came_while_the_log_was_read_is_not_missed():
    book = Book(last=1)
    book.event("a")
    book.effect("b0", "b")

    assert book.violations() == []


def made(moment):
    """A UUIDv7 of that moment."""
    millis = f"{int(moment.timestamp() * 1000):012x}"
    return f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000"


OLD, YOUNG = made(START - timedelta(days=1)), made(START + timedelta(hours=3))


@pytest.mark.parametrize(
    ("cause", "root", "missed"),
    [
        ("derived", "own-key", False),
        ("derived", OLD, False),
        ("derived", YOUNG, True),
        ("derived", "in-the-log", True),
        ("derived", "x", False),
        (OLD, OLD, False),
        (YOUNG, "own-key", True),
    ],
)
def test_once_something_has_aged_out_a_cause_is_missed_only_if_it_must_be_younger(cause, root, missed):
    book = Book(**AGED)
    book.event("first")
    book.event("in-the-log")
    book.sequence += 4 * 3600
    book.effect("x", cause, root=root)

    assert bool(book.violations()) is missed


def test_a_stream_that_keeps_messages_longer_than_it_did_reaches_back_to_its_first_event():
    book = Book(**AGED)
    book.sequence += 4 * 3600
    book.effect("x", YOUNG)

    assert book.violations() == []


def test_another_stream_that_has_aged_out_may_have_held_the_cause():
    book, other = Book(), Book("billing", **AGED | {"limit": START + timedelta(days=1)})
    book.effect("x", YOUNG)

    assert book.violations() == [("orphan_cause", "1")]
    assert book.violations(other) == []


def test_decisions_on_different_questions_are_different_chains():
    book = Book()
    book.decision("a", "")
    book.decision("b", "a")
    book.decision("c", "", "owner")

    assert book.violations() == []


@pytest.mark.parametrize("overrides", ["", "a", "nobody"])
def test_a_decision_must_override_the_one_before(overrides):
    book = Book()
    book.decision("a", "")
    book.decision("b", "a")
    book.decision("c", overrides)
    book.decision("d", "c")

    assert book.violations() == [("decision_gap", "3")]


def test_the_first_decision_overrides_nothing():
    book = Book()
    book.decision("b", "a")

    (found,) = book.ledger.violations
    assert (found.id, found.finding) == ("b", "discount of order/7 overrides a, which is not in the log")


def test_what_is_no_decision_is_a_gap():
    book = Book()
    book.decision("a", "")
    book.ledger.take_decision(Stored(NAMES.decision("shop", "discount", "order/7"), b"\xff", {}, 9, START))
    book.decision("b", "a")

    assert book.violations() == [("decision_gap", "9")]


def output(book, event_id="out", cause="a"):
    return book.effect(event_id, cause, "out.billing.invoice_requested.7", batch="x")


def test_an_output_is_lost_if_its_domain_does_not_have_it():
    shop, billing = Book(durables=[durable()]), Book("billing")
    shop.event("a")
    output(shop, "there")
    lost = output(shop, "lost")
    billing.effect("there", "a", "evt.invoice_requested.7")
    billing.effect("lost", "a", "evt.another_type.7")

    assert shop.violations(billing) == [("lost_output", str(lost))]


def test_an_output_for_a_domain_that_does_not_exist_is_lost():
    book = Book(durables=[durable()])
    book.event("a")
    book.effect("out", "a", "out.nowhere.invoice_requested.7")

    assert book.violations() == [("lost_output", "2")]


@pytest.mark.parametrize(("floor", "found"), [(0, []), (1, ["lost_output"])])
def test_an_output_is_on_its_way_while_its_input_may_be_unsettled(floor, found):
    book = Book(durables=[durable(floor=floor), durable("other", floor=0), durable("clerk", "another", floor=0)])
    book.event("a")
    output(book)

    assert [invariant for invariant, _ in book.violations()] == found


def test_an_output_is_on_its_way_while_its_input_is_redriven():
    book = Book(durables=[durable(floor=1)])
    book.event("a")
    book.redo("a")
    output(book)

    assert book.violations() == []


def test_an_output_that_is_old_may_have_aged_out_of_its_domain():
    shop, billing = Book(durables=[durable()]), Book("billing", **AGED | {"limit": START + timedelta(seconds=3)})
    shop.event("a")
    output(shop, "old")
    young = output(shop, "young")

    assert shop.violations(billing) == [("lost_output", str(young))]


def test_a_command_has_one_handler_also_if_the_other_gave_it_up():
    book = Book()
    command = book.event("a", "pack_order", kind="cmd")
    book.event("b")
    book.effect("a0", "a", agent="packer")
    book.effect("b0", "b", agent="packer")
    book.effect("b1", "b", agent="robot")
    book.effect("a1", "a", "dead.robot.pack_order.7", agent="robot")
    book.effect("a2", "a", "dead.robot.pack_order.7", agent="robot")

    assert book.violations() == [("shared_command", str(command))]


def test_events_are_handled_dead_or_pending():
    book = Book(durables=[durable(delivered=4, deliveries=4, floor=2, unsettled=1, waiting=1)])
    for event_id in "abcde":
        book.event(event_id)
    book.effect("a0", "a")
    book.effect("b0", "b", "dead.clerk.order_placed.7")

    assert book.tally() == Tally("clerk", handled=2, answered=1, dead=1, pending=2)


def test_a_dead_letter_outlives_its_event():
    book = Book(durables=[durable()], **AGED)
    book.event("a")
    book.effect("x", "gone", "dead.clerk.order_placed.7")

    assert book.tally() == Tally("clerk", handled=1, answered=0, dead=1, pending=0)


def test_a_redriven_event_counts_once():
    book = Book(durables=[durable()])
    book.event("a")
    book.redo("a")
    book.redo("older")
    book.redo("a", agent="auditor")

    assert book.tally().handled == 2


def test_the_durables_of_an_agent_count_together():
    book = Book(durables=[durable("clerk", "order_placed", waiting=1), durable("clerk", "order_accepted", waiting=2)])
    book.event("a", "order_placed")
    book.event("b", "order_accepted")
    book.event("c", "order_refused")

    assert book.tally() == Tally("clerk", handled=2, answered=0, dead=0, pending=3)


def test_events_before_the_start_of_a_durable_are_not_its_own_unless_they_are_replayed():
    start = START + timedelta(seconds=2.5)
    book = Book(durables=[durable("late", start=start), durable("later", start=start + timedelta(days=1))])
    for event_id in "abcd":
        book.event(event_id)
    book.redo("a", agent="late")
    book.redo("d", agent="late")

    assert (book.tally("late").handled, book.tally("later").handled) == (3, 0)


def test_more_than_was_delivered_is_not_handled():
    book = Book(durables=[durable("clerk", "order_placed", "order_accepted", deliveries=2)])
    for event_id in "abcd":
        book.event(event_id)

    assert book.tally().handled == 2


def test_an_agent_without_a_durable_is_known_by_what_it_wrote():
    book = Book()
    book.event("a")
    book.effect("a0", "a")

    assert book.tally() == Tally("clerk", handled=None, answered=1, dead=0, pending=None)
