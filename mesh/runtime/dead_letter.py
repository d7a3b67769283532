"""Dead letters: what an agent gave up on, kept with the reason."""

import traceback

from mesh.contract.cloudevents import MSG_ID, CloudEvent, message_id
from mesh.contract.ids import output_id
from mesh.contract.namespace import Address, Namespace
from mesh.runtime.incoming import redo_count
from mesh.runtime.ports import Delivery, Write
from mesh.v1.log_pb2 import DeadLetter

_MAX_TEXT = 16_384
_HEADER_RESERVE = 4_096
"""Bytes of a message kept free for the headers of the dead letter itself."""


def dead_letter(
    namespace: Namespace,
    agent: str,
    address: Address,
    delivery: Delivery,
    event: CloudEvent,
    *,
    code: str,
    error: BaseException,
    attempts: int,
    max_payload: int,
) -> Write:
    """The message that keeps a delivery that `agent` gave up on.

    Args:
        namespace: Where the agent lives.
        agent: Who gave up.
        address: Subject of the delivery, taken apart.
        delivery: What was given up.
        event: Its attributes, as far as they could be read.
        code: Why, as a code.
        error: Why, as an exception.
        attempts: Failed attempts.
        max_payload: Largest message the server takes; a payload that does not fit stays in the stream only.
    """
    redo = redo_count(delivery.headers)
    letter = DeadLetter(
        agent=agent,
        event_id=event.id,
        type=event.type,
        entity=event.subject,
        subject=delivery.subject,
        headers=delivery.headers,
        data=delivery.data,
        stream=delivery.stream,
        stream_sequence=delivery.sequence,
        code=code,
        reason=legible(str(error))[:_MAX_TEXT],
        error_type=type(error).__qualname__,
        traceback=trace(error),
        attempts=attempts,
        redrives=redo,
    )
    letter.published.FromDatetime(delivery.published)
    if letter.ByteSize() > max_payload - _HEADER_RESERVE:
        letter.data_omitted = True
        letter.data = b""
    attributes = event.effect(
        id=output_id(event.source, event.id, f"{agent}/dead", redo),
        source=f"/agents/{agent}",
        type=DeadLetter.DESCRIPTOR.full_name,
        subject=event.subject,
    )
    headers = attributes.headers() | {MSG_ID: message_id("dead", attributes.id), "Nats-TTL": "never"}
    subject = namespace.dead(address.domain, agent, address.name, address.key)
    return Write(subject, letter.SerializeToString(), headers)


def trace(error: BaseException) -> str:
    """The traceback of an error as text; empty for an error that was not raised from code."""
    if error.__traceback__ is None:
        return ""
    return legible("".join(traceback.format_exception(error)))[-_MAX_TEXT:]


def legible(text: str) -> str:
    """Text that can be stored: half of a surrogate pair, which a model may have answered, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
