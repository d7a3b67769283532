import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.contract.cloudevents import CloudEvent, message_id, read_count, read_headers, read_structured

TEXT = st.text() | st.sampled_from(["", " ", '"quoted"', "100 %", "%41", "Zürich", "a\r\nNats-Msg-Id: forged", "\0\t"])
NON_EMPTY = TEXT.filter(bool)
EVENTS = st.builds(
    CloudEvent,
    id=NON_EMPTY,
    source=TEXT,
    type=TEXT,
    subject=TEXT,
    correlation_id=NON_EMPTY,
    causation_id=TEXT,
    hops=st.integers(0, 100),
    time=st.datetimes(timezones=st.just(UTC)),
    content_type=st.sampled_from(["application/protobuf", "application/json"]),
    trace=st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.text("abc=;,-019")),
)


def read(headers):
    return read_headers(headers, fallback_id="SHOP:7")


@given(EVENTS)
def test_an_event_reads_back_from_its_headers(event):
    assert read(event.headers()) == event


@given(EVENTS)
def test_no_attribute_can_break_out_of_its_header(event):
    written = "".join(event.headers().values())

    assert written.isascii()
    assert written.isprintable()


@given(EVENTS)
def test_header_names_are_read_in_any_case(event):
    assert read({name.upper(): value for name, value in event.headers().items()}) == event


@given(st.dictionaries(st.sampled_from(["ce-id", "ce-time", "ce-type", "mesh-hops", "content-type"]), st.text()))
def test_headers_that_anybody_wrote_are_read(headers):
    event = read(headers)

    assert event.id
    assert event.hops >= 0


def test_an_event_without_headers_has_its_place_as_id_and_is_a_root():
    event = read({})

    assert (event.id, event.correlation_id, event.causation_id) == ("SHOP:7", "SHOP:7", "")
    assert (event.hops, event.time, event.content_type) == (0, None, "application/protobuf")


def test_the_message_id_stands_in_for_a_missing_id():
    assert read({"Nats-Msg-Id": "m1"}).id == "m1"
    assert read({"Nats-Msg-Id": "m1", "ce-id": "c1"}).id == "c1"


@pytest.mark.parametrize("hops", ["-1", "1.5", "many", "", "9" * 5000])
def test_a_depth_that_is_no_number_is_none(hops):
    assert read({"mesh-hops": hops}).hops == 0


def test_a_count_may_be_as_large_as_any_sequence_of_a_stream():
    assert read_count("123456789012345678") == 123456789012345678


def test_a_time_that_is_none_is_left_out():
    assert read({"ce-time": "yesterday"}).time is None


def test_text_that_was_not_escaped_is_read_beside_text_that_was():
    assert read({"ce-subject": "straße/Zürich%20Süd"}).subject == "straße/Zürich Süd"


def test_the_time_is_written_in_utc_and_made_when_it_is_missing():
    plain = CloudEvent("1", "/a", "T", "lead/1", "1")

    assert read(plain.headers()).time.tzinfo is UTC
    timed = CloudEvent("1", "/a", "T", "lead/1", "1", time=datetime(2026, 11, 1, tzinfo=UTC))
    assert timed.headers()["ce-time"] == "2026-11-01T00:00:00Z"


def test_parameters_of_the_content_type_do_not_count():
    assert read({"Content-Type": "Application/JSON; charset=utf-8"}).content_type == "application/json"
    assert read({"Content-Type": "text/plain", "ce-datacontenttype": "a/b"}).content_type == "a/b"


def test_a_structured_event_is_taken_apart():
    envelope = {
        "specversion": "1.0", "id": "Zürich 1", "source": "/erp", "type": "T", "subject": "100 %",
        "correlationid": "c", "data": {"order_id": "1"},
    }  # fmt: skip

    event, payload = read_structured(json.dumps(envelope).encode(), fallback_id="SHOP:7")

    assert (event.id, event.source, event.subject, event.correlation_id) == ("Zürich 1", "/erp", "100 %", "c")
    assert event.content_type == "application/json"
    assert json.loads(payload) == {"order_id": "1"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]", "an object with a `data` member"),
        (b'"text"', "an object with a `data` member"),
        (b'{"id": "1"}', "an object with a `data` member"),
        (b"\xff", "can't decode byte"),
    ],
)
def test_what_is_no_structured_event_is_refused(payload, reason):
    with pytest.raises(ValueError, match=reason):
        read_structured(payload, fallback_id="SHOP:7")


@given(TEXT, TEXT)
def test_message_ids_are_printable_and_differ_when_the_events_do(one, other):
    ids = [message_id("sold", one), message_id("sold", other)]

    assert (ids[0] == ids[1]) == (one == other)
    assert "".join(ids).isprintable()


def test_an_event_of_another_type_and_a_redrive_have_message_ids_of_their_own():
    ids = {message_id("sold", "1"), message_id("bought", "1"), message_id("sold", "1", 1), message_id("sold", "1", 2)}

    assert len(ids) == 4
