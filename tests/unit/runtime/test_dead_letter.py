import pytest
from shop.v1.events_pb2 import OrderPlaced

from mesh.contract.cloudevents import CloudEvent, read_headers
from mesh.contract.namespace import Address
from mesh.runtime.dead_letter import dead_letter
from mesh.v1.log_pb2 import DeadLetter

ORDER = OrderPlaced(order_id="7", quantity=3)
EVENT = CloudEvent("e1", "/erp", "shop.v1.OrderPlaced", "order/7", "root", hops=2)
AT = Address("shop", "evt", "order_placed", "7")


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.fixture
def buried(names, delivery):
    """Makes the dead letter of a delivery and gives it with its subject and headers."""

    def bury(error, *, max_payload=1 << 20, **changes):
        given_up = delivery(ORDER, sequence=9, **changes)
        reason = {"code": "handler_failed", "error": error, "attempts": 5}
        write = dead_letter(names, "seller", AT, given_up, EVENT, **reason, max_payload=max_payload)
        return DeadLetter.FromString(write.data), write

    return bury


def test_a_dead_letter_keeps_the_event_and_the_reason(buried):
    letter, write = buried(raised(ValueError("odd")))

    assert write.subject == "mesh.shop.dead.seller.order_placed.7"
    assert (letter.data, letter.subject) == (ORDER.SerializeToString(), "mesh.shop.evt.order_placed.7")
    assert (letter.stream, letter.stream_sequence) == ("MESH_SHOP", 9)
    assert dict(letter.headers) == {"ce-id": "e1", "ce-source": "/erp", "ce-type": "shop.v1.OrderPlaced"}
    assert (letter.code, letter.reason, letter.attempts) == ("handler_failed", "odd", 5)
    assert letter.error_type == "ValueError"
    assert letter.traceback.rstrip().endswith("ValueError: odd")
    assert letter.published.ToJsonString() == "2026-11-01T12:00:00Z"


def test_a_dead_letter_is_an_effect_of_its_event_and_is_kept_for_ever(buried):
    _, write = buried(ValueError("odd"))
    event = read_headers(write.headers, fallback_id="")

    assert (event.causation_id, event.correlation_id, event.source) == ("e1", "root", "/agents/seller")
    assert (event.subject, event.hops) == ("order/7", 3)
    assert write.headers["Nats-Msg-Id"] == f"dead:{event.id}"
    assert write.headers["Nats-TTL"] == "never"


def test_a_second_process_that_gives_up_the_same_event_writes_the_same_message(buried):
    assert buried(ValueError("odd"))[1].headers["Nats-Msg-Id"] == buried(OSError("even"))[1].headers["Nats-Msg-Id"]


def test_a_redrive_that_fails_is_a_dead_letter_of_its_own(buried):
    first, write = buried(ValueError("odd"))
    second, again = buried(ValueError("odd"), headers={"mesh-redo": "1"})

    assert (first.redrives, second.redrives) == (0, 1)
    assert write.headers["Nats-Msg-Id"] != again.headers["Nats-Msg-Id"]


def test_a_payload_that_leaves_no_room_stays_in_the_stream_only(buried):
    letter, write = buried(ValueError("odd"), data=bytes(20_000), max_payload=20_000)

    assert letter.data_omitted
    assert letter.data == b""
    assert len(write.data) < 1000


def test_a_long_reason_is_cut(buried):
    letter, _ = buried(raised(ValueError("x" * 1_000_000)))

    assert letter.reason == "x" * 16_384
    assert len(letter.traceback) == 16_384


def test_text_that_is_no_unicode_does_not_stop_a_dead_letter(buried):
    """A model may answer with half of a surrogate pair, and a handler may quote it."""
    letter, _ = buried(raised(ValueError("odd \ud83d")))

    assert letter.reason == "odd ?"
    assert letter.traceback.rstrip().endswith("odd ?")


def test_a_number_of_redrives_that_somebody_made_up_does_not_stop_a_dead_letter(buried):
    letter, _ = buried(ValueError("odd"), headers={"mesh-redo": "9" * 18})

    assert letter.redrives == 2**32 - 1
