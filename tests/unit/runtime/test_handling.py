"""From delivery to settlement, on streams in memory."""

import asyncio

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock

from mesh import Agent, Context, Reject, Retry
from mesh.runtime.flight import Flight
from mesh.runtime.handling import Counters, Handling
from mesh.runtime.ports import Write
from mesh.v1.log_pb2 import DeadLetter, JournalEntry

ORDER = OrderPlaced(order_id="7", quantity=3)


class Shop:
    """One agent with one handler of OrderPlaced, given deliveries one by one."""

    def __init__(self, environment, delivery, log):
        self._environment, self._delivery, self._log = environment, delivery, log
        self.counters = Counters()

    def handles(self, function, **options):
        agent = Agent("seller")
        agent.on(OrderPlaced, **options)(function)
        self._handling = Handling(self._environment, agent, None, self.counters)

    async def receive(self, message=ORDER, **changes):
        """Settles one delivery and gives how."""
        flight = Flight(self._delivery(message, **changes))
        await self._handling.handle(flight)
        [settlement] = flight.delivery.settlements
        return settlement

    def stored(self, stream="SHOP"):
        return [s.subject.removeprefix(f"mesh.{stream.lower()}.") for s in self._log.streams[f"MESH_{stream}"]]

    def journal(self):
        entries = [JournalEntry.FromString(s.data) for s in self._log.streams["MESH_JOURNAL"]]
        return [(entry.WhichOneof("entry"), entry.delivery) for entry in entries]

    def dead_letters(self):
        return [DeadLetter.FromString(s.data) for s in self._log.streams["MESH_SHOP"] if ".dead." in s.subject]


@pytest.fixture
def shop(environment, delivery, log):
    shop = Shop(environment, delivery, log)
    yield shop
    shop._handling.close()


def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    return OrderAccepted(order_id=event.order_id)


def fail_with(error):
    async def handle(event, ctx):
        raise error

    return handle


async def test_a_handled_event_is_committed_then_acknowledged(shop):
    shop.handles(accept)

    assert await shop.receive() == "ack"
    assert shop.stored() == ["evt.order_accepted.7"]
    assert shop.journal() == []
    assert shop.counters == Counters(handled=1)


async def test_a_redelivery_after_the_commit_runs_nothing_and_changes_nothing(shop):
    runs = []

    async def handle(event, ctx) -> OrderAccepted:
        runs.append(ctx.attempt)
        return OrderAccepted(order_id="7")

    shop.handles(handle)
    await shop.receive()

    assert await shop.receive(delivered=2) == "ack"
    assert runs == [1]
    assert shop.stored() == ["evt.order_accepted.7"]


async def test_a_handler_whose_reads_went_stale_runs_again_and_only_the_last_run_counts(shop, log, environment):
    runs = []

    async def handle(event, ctx) -> OrderAccepted:
        stock = await ctx.state.get_or_new(Stock, "a")
        runs.append(stock.reserved)
        if len(runs) == 1:
            rival = Shop(environment, shop._delivery, log)
            rival.handles(reserve)
            await rival.receive(headers={"ce-id": "other"})
            rival._handling.close()
        stock.reserved += 1
        await ctx.state.put(stock)
        return OrderAccepted(order_id="7", quantity=stock.reserved)

    async def reserve(event, ctx):
        await ctx.state.put(Stock(shelf_id="a", reserved=10))

    shop.handles(handle)

    assert await shop.receive() == "ack"
    assert runs == [0, 10]
    [answer] = [s for s in log.streams["MESH_SHOP"] if ".evt." in s.subject]
    assert OrderAccepted.FromString(answer.data).quantity == 11


async def test_an_output_into_another_domain_arrives_there_once(shop):
    async def handle(event, ctx) -> InvoiceRequested:
        return InvoiceRequested(invoice_number=70)

    shop.handles(handle)
    await shop.receive()
    await shop.receive(delivered=2)

    assert shop.stored() == ["out.billing.invoice_requested.70", "done.seller.7"]
    assert shop.stored("BILLING") == ["evt.invoice_requested.70"]


async def test_failures_are_recorded_and_tried_again_until_the_event_is_given_up(shop):
    shop.handles(fail_with(ValueError("odd")), max_attempts=3)

    first, second, third = [await shop.receive(delivered=number) for number in (1, 2, 3)]

    assert first[0] == second[0] == "nak"
    assert 0 < first[1] < second[1]
    assert third == ("term", "handler_failed: ValueError: odd")
    [letter] = shop.dead_letters()
    assert (letter.code, letter.attempts, letter.reason) == ("handler_failed", 3, "odd")
    assert shop.journal() == []
    assert shop.counters == Counters(failed=3, dead_lettered=1)


async def test_waiting_and_handing_back_never_use_up_attempts(shop):
    shop.handles(fail_with(Retry("not yet", after=9)), max_attempts=2)

    assert [await shop.receive(delivered=number) for number in range(1, 6)] == [("nak", 9.0)] * 5
    assert shop.journal() == [("failure", number) for number in range(1, 6)]
    assert shop.counters == Counters()


async def test_a_rejected_event_is_given_up_at_once(shop):
    shop.handles(fail_with(Reject("too old")))

    assert await shop.receive() == ("term", "rejected: too old")
    assert [letter.attempts for letter in shop.dead_letters()] == [1]


async def test_an_undecodable_event_is_given_up_without_an_attempt(shop):
    shop.handles(accept)

    settlement = await shop.receive(data=b"\xff")

    assert settlement[0] == "term"
    assert [(letter.code, letter.attempts) for letter in shop.dead_letters()] == [("undecodable", 0)]


async def test_an_error_that_quotes_broken_text_counts_like_any_other(shop):
    shop.handles(fail_with(ValueError("odd \ud83d")), max_attempts=1)

    assert await shop.receive() == ("term", "handler_failed: ValueError: odd ?")


async def test_a_subject_that_the_agent_does_not_read_is_ended(shop):
    shop.handles(accept)

    assert (await shop.receive(subject="mesh.shop.redo.rival.order_placed.7"))[0] == "term"
    assert shop.stored() == []


async def test_an_event_for_a_newer_version_is_left_to_it_and_waits_longer_each_time(shop):
    shop.handles(accept)

    waits = [await shop.receive(subject="mesh.shop.evt.order_returned.7", delivered=number) for number in (1, 2, 30)]

    assert waits == [("nak", 1.0), ("nak", 1.5), ("nak", 15.0)]
    assert {kind for kind, _ in shop.journal()} == {"hand_back"}
    assert shop.dead_letters() == []


async def test_a_cancelled_handling_is_handed_back_with_a_word(shop):
    started = asyncio.Event()

    async def handle(event, ctx):
        started.set()
        await asyncio.Event().wait()

    shop.handles(handle)
    handling = asyncio.create_task(shop.receive())
    await started.wait()
    handling.cancel()

    assert await handling == ("nak", 0.0)
    assert shop.journal() == [("hand_back", 1)]


async def test_an_event_that_may_have_killed_its_process_runs_alone_and_says_so_first(shop, environment):
    seen = []

    async def handle(event, ctx):
        seen.append((environment.gate._alone, shop.journal()))

    shop.handles(handle)

    assert await shop.receive(delivered=2) == "ack"
    assert seen == [(True, [("alone", 2)])]


async def test_an_event_that_died_alone_too_often_is_given_up_unrun(shop, log, names):
    shop.handles(accept, max_attempts=2)
    for number in (2, 3):
        entry = JournalEntry(alone=JournalEntry.Alone(), delivery=number)
        await log.commit(names.journal_stream, [Write(names.journal("seller", "e1"), entry.SerializeToString())])

    settlement = await shop.receive(delivered=4)

    assert settlement[0] == "term"
    assert [(letter.code, letter.attempts) for letter in shop.dead_letters()] == [("killed_process", 0)]
    assert shop.stored() == ["dead.seller.order_placed.7"]


async def test_a_redrive_starts_with_a_journal_of_its_own_and_keeps_the_ids_of_its_outputs(shop, log):
    shop.handles(fail_with(ValueError("odd")), max_attempts=1)
    await shop.receive()
    shop.handles(accept)
    subject = "mesh.shop.redo.seller.order_placed.7"

    redriven = {"ce-id": "e1", "ce-source": "/erp", "mesh-redo": "1"}
    assert await shop.receive(subject=subject, headers=redriven, sequence=9) == "ack"
    assert await shop.receive(subject=subject, headers={**redriven, "mesh-redo": "2"}, sequence=10) == "ack"
    assert shop.stored() == ["dead.seller.order_placed.7", "evt.order_accepted.7"]
