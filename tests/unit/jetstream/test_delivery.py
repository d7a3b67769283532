from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from mesh.jetstream.delivery import PulledMessage

V1 = "$JS.ACK.MESH_SHOP.seller.3.41.17.1793534400123456789.5"
V2 = "$JS.ACK.hub.ACCOUNT.MESH_SHOP.seller.3.41.17.1793534400123456789.5.random"


class Connection:
    def __init__(self):
        self.posts = []

    def post(self, subject, data):
        self.posts.append((subject, data))


@pytest.fixture
def connection():
    return Connection()


def message(connection, reply=V1):
    return PulledMessage(
        connection, SimpleNamespace(reply=reply, subject="mesh.shop.evt.x.1", headers=None, data=b"abc")
    )


@pytest.mark.parametrize("reply", [V1, V2], ids=["without domain", "with domain"])
def test_the_reply_subject_tells_place_count_and_time(connection, reply):
    found = message(connection, reply)

    assert (found.stream, found.delivered, found.sequence, found.pending) == ("MESH_SHOP", 3, 41, 5)
    assert found.published == datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert found.headers == {}


@pytest.mark.parametrize(
    ("settle", "payload"),
    [
        (lambda m: m.ack(), b"+ACK"),
        (lambda m: m.nak(), b"-NAK"),
        (lambda m: m.nak(1.5), b'-NAK {"delay": 1500000000}'),
        (lambda m: m.in_progress(), b"+WPI"),
        (lambda m: m.term("handler_failed: two\r\nlines"), b"+TERM handler_failed: two lines"),
    ],
    ids=["ack", "nak", "late nak", "in progress", "term"],
)
def test_a_settlement_is_one_message_to_the_reply_subject(connection, settle, payload):
    settle(message(connection))

    assert connection.posts == [(V1, payload)]
