import asyncio

import pytest
from shop.v1.events_pb2 import OrderPlaced

from mesh.runtime.dispatcher import Dispatcher

ORDER = OrderPlaced(order_id="7")


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """A handling that starts and ends when the test says so, and notes when it is handed back."""

    def __init__(self):
        self.flights = []
        self.may_start = asyncio.Event()
        self.may_end = asyncio.Event()
        self.released = 0

    async def handle(self, flight):
        self.flights.append(flight)
        try:
            await self.may_start.wait()
            flight.started = True
            await self.may_end.wait()
        except asyncio.CancelledError:
            flight.delivery.nak()
        else:
            flight.ack()

    def release(self):
        self.released += 1


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def dispatcher(work):
    return Dispatcher(work.handle)


async def test_a_delivery_is_handled_and_then_releases_its_slot(dispatcher, work, delivery):
    first = delivery(ORDER)
    dispatcher.deliver(first, work.release)
    await settle()
    assert (dispatcher.in_flight, work.released) == (1, 0)

    work.may_start.set()
    work.may_end.set()
    await settle()
    assert (dispatcher.in_flight, work.released, first.settlements) == (0, 1, ["ack"])


async def test_a_second_delivery_of_a_message_in_flight_takes_the_place_of_the_first(dispatcher, work, delivery):
    first, second = delivery(ORDER), delivery(ORDER, delivered=2)
    dispatcher.deliver(first, work.release)
    await settle()

    dispatcher.deliver(second, work.release)
    assert (dispatcher.in_flight, work.released) == (1, 1)

    work.may_start.set()
    work.may_end.set()
    await settle()
    assert len(work.flights) == 1
    assert (first.settlements, second.settlements, work.released) == ([], ["ack"], 2)


async def test_a_message_that_was_settled_is_acknowledged_again_without_being_handled(dispatcher, work, delivery):
    work.may_start.set()
    work.may_end.set()
    dispatcher.deliver(delivery(ORDER), work.release)
    await settle()

    again = delivery(ORDER, delivered=2)
    dispatcher.deliver(again, work.release)
    await settle()

    assert again.settlements == ["ack"]
    assert (len(work.flights), work.released) == (1, 2)


async def test_a_message_that_was_tried_before_is_handled_again_as_an_old_acquaintance(work, delivery):
    async def fail(flight):
        work.flights.append(flight)
        flight.delivery.nak(5.0)

    dispatcher = Dispatcher(fail)
    for number in (1, 2):
        dispatcher.deliver(delivery(ORDER, delivered=number), work.release)
        await settle()

    assert [flight.seen_before for flight in work.flights] == [False, True]


async def test_a_stream_that_was_made_anew_counts_from_one_again(dispatcher, work, delivery):
    work.may_start.set()
    work.may_end.set()
    first = delivery(ORDER)
    dispatcher.deliver(first, work.release)
    await settle()
    dispatcher.deliver(delivery(ORDER, published=first.published.replace(year=2027)), work.release)
    await settle()

    assert len(work.flights) == 2


async def test_everything_in_flight_shows_signs_of_life_on_its_newest_delivery(dispatcher, work, delivery):
    first, second, other = delivery(ORDER), delivery(ORDER, delivered=2), delivery(ORDER, sequence=2)
    for one in (first, other, second):
        dispatcher.deliver(one, work.release)

    dispatcher.extend()

    assert (first.settlements, second.settlements, other.settlements) == ([], ["in progress"], ["in progress"])
    await dispatcher.drain(0)


async def test_a_handling_that_breaks_is_delivered_again_and_does_not_end_the_others(work, delivery, caplog):
    async def handle(flight):
        if flight.delivery.sequence == 1:
            raise OSError("broken")
        flight.ack()

    dispatcher = Dispatcher(handle)
    broken, other = delivery(ORDER), delivery(ORDER, sequence=2)
    dispatcher.deliver(broken, work.release)
    dispatcher.deliver(other, work.release)
    await settle()

    assert (broken.settlements, other.settlements) == ([("nak", 1.0)], ["ack"])
    assert work.released == 2
    assert "the handling of message 1 in MESH_SHOP broke" in caplog.text


async def test_draining_hands_back_what_has_not_started_and_waits_for_the_rest(dispatcher, work, delivery):
    started, waiting = delivery(ORDER), delivery(ORDER, sequence=2)
    work.may_start.set()
    dispatcher.deliver(started, work.release)
    await settle()
    work.may_start.clear()
    dispatcher.deliver(waiting, work.release)
    await settle()

    drained = asyncio.create_task(dispatcher.drain(60))
    await settle()
    assert waiting.settlements == [("nak", 0.0)]
    assert not drained.done()

    work.may_end.set()
    await drained
    assert started.settlements == ["ack"]
    assert (dispatcher.in_flight, work.released) == (0, 2)


async def test_draining_hands_back_what_has_just_been_delivered(dispatcher, work, delivery):
    fresh = delivery(ORDER)
    dispatcher.deliver(fresh, work.release)

    await dispatcher.drain(60)

    assert fresh.settlements == [("nak", 0.0)]
    assert (dispatcher.in_flight, work.released) == (0, 1)


async def test_draining_hands_back_what_does_not_end_in_time(dispatcher, work, delivery):
    stuck = delivery(ORDER)
    work.may_start.set()
    dispatcher.deliver(stuck, work.release)
    await settle()

    await dispatcher.drain(0)

    assert stuck.settlements == [("nak", 0.0)]
    assert dispatcher.in_flight == 0


async def test_draining_nothing_is_done_at_once(dispatcher):
    await dispatcher.drain(60)

    assert dispatcher.in_flight == 0
