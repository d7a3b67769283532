import asyncio
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.jetstream import pull
from mesh.jetstream.pull import PullConsumer

CAPACITY = 10
MAX_BYTES = 5000


class Server:
    """A connection to a server that serves pulls in their order, when the test says so."""

    is_connected = True
    max_payload = 1 << 20

    def __init__(self):
        self.pulls = []
        self.open = {}
        self.naks = 0
        self.subscribed = False

    @property
    def asked(self):
        """How many messages the server may still deliver."""
        return sum(self.open.values())

    def new_inbox(self):
        return "_INBOX.me"

    def on_reconnect(self, callback):
        self.reconnect = callback

    def post(self, subject, data, reply=""):
        if subject.startswith("$JS.ACK"):
            self.naks += data == b"-NAK"
            return
        self.pulls.append(json.loads(data))
        self.open[reply] = self.pulls[-1]["batch"]

    async def subscribe(self, subject, callback):
        self.subscribed, self._callback = True, callback
        return self

    async def unsubscribe(self):
        self.subscribed = False

    async def flush(self): ...

    async def deliver(self, data=b""):
        oldest = next(iter(self.open))
        self.open[oldest] -= 1
        if not self.open[oldest]:
            del self.open[oldest]
        reply = "$JS.ACK.S.C.1.2.3.1793534400000000000.0"
        await self._callback(SimpleNamespace(subject="mesh.shop.evt.x.1", data=data, headers=None, reply=reply))

    async def end(self, status, description="", *, forget=True):
        oldest = next(iter(self.open))
        if forget:
            del self.open[oldest]
        headers = {"Status": status, "Description": description}
        await self._callback(SimpleNamespace(subject=oldest, data=b"", headers=headers, reply=""))


class Reading:
    """A consumer that holds each message until the test releases it."""

    def __init__(self, server):
        self.held = []
        self.missing = asyncio.Event()
        self.consumer = PullConsumer(
            server, "S", "C", self._take, capacity=CAPACITY, max_bytes=MAX_BYTES, missing=self.missing.set
        )

    def _take(self, message, release):
        self.held.append(release)

    def release(self):
        self.held.pop(0)()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
async def reading(server):
    reading = Reading(server)
    await reading.consumer.start()
    yield reading
    await reading.consumer.stop()


async def test_the_first_pull_asks_for_as_much_as_there_is_room(reading, server):
    [body] = server.pulls

    assert body["batch"] == CAPACITY
    assert body["max_bytes"] >= server.max_payload


@given(st.lists(st.sampled_from(["deliver", "deliver", "release", "expire"]), max_size=80))
async def test_never_more_is_asked_for_than_there_is_room_and_pulling_never_stops(steps):
    server = Server()
    reading = Reading(server)
    await reading.consumer.start()
    for step in steps:
        if step == "deliver" and server.open:
            await server.deliver()
        elif step == "release" and reading.held:
            reading.release()
        elif step == "expire" and server.open:
            await server.end("408", "Request Timeout")
        assert server.asked + len(reading.held) <= CAPACITY
        assert server.asked or len(reading.held) > CAPACITY // 2
    await reading.consumer.stop()


async def test_nothing_is_asked_for_while_too_many_bytes_are_held(reading, server):
    await server.deliver(bytes(MAX_BYTES))
    await server.end("408", "Request Timeout")
    assert server.asked == 0

    reading.release()
    assert server.asked == CAPACITY


@pytest.mark.parametrize(
    ("status", "description"), [("404", "No Messages"), ("408", "Request Timeout"), ("409", "Batch Completed")]
)
async def test_a_pull_that_ended_is_followed_by_another(reading, server, status, description):
    await server.end(status, description)

    assert len(server.pulls) == 2


async def test_a_heartbeat_ends_nothing(reading, server):
    await server.end("100", "Idle Heartbeat", forget=False)

    assert len(server.pulls) == 1


@pytest.mark.parametrize(("status", "description"), [("503", ""), ("409", "Consumer Deleted")])
async def test_a_consumer_that_is_gone_is_reported_and_asked_again(reading, server, monkeypatch, status, description):
    monkeypatch.setattr(pull, "_MISSING_PAUSE", 0)

    await server.end(status, description)
    async with asyncio.timeout(5):
        await reading.missing.wait()

    assert len(server.pulls) == 2


async def test_after_a_reconnect_everything_is_asked_for_again(reading, server):
    await server.deliver()
    server.open.clear()

    server.reconnect()

    assert server.asked == CAPACITY - 1


async def test_what_arrives_while_stopping_is_handed_back_and_not_delivered(server):
    reading = Reading(server)
    await reading.consumer.start()

    await reading.consumer.stop()
    await server.deliver()

    assert (server.subscribed, server.naks, reading.held) == (False, 1, [])


async def test_nothing_is_asked_for_after_the_stop(server):
    reading = Reading(server)
    await reading.consumer.start()
    await server.deliver()

    await reading.consumer.stop()
    reading.release()
    server.reconnect()

    assert len(server.pulls) == 1
