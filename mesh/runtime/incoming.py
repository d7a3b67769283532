"""From a delivered message to an event: believe the subject, doubt everything else."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from mesh.agent.handler import Handler
from mesh.contract import cloudevents
from mesh.contract.cloudevents import CloudEvent
from mesh.contract.namespace import Address, Namespace
from mesh.contract.payload import parse, unwrap
from mesh.contract.validation import validate
from mesh.errors import ContractError
from mesh.runtime.ports import Delivery

_MAX_REDO = 2**32 - 1
"""What a dead letter can hold."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A decoded event on its way to a handler.

    Attributes:
        handler: Who handles it.
        event: Its CloudEvents attributes.
        message: Its payload.
        key: Key, as the subject has it.
        redo: How often it was redriven.
        sequence: Its sequence in the stream.
    """

    handler: Handler
    event: CloudEvent
    message: Message
    key: str
    redo: int
    sequence: int


class Undeliverable(ContractError):
    """A message that no attempt can handle: it becomes a dead letter at once."""


def attributes(delivery: Delivery) -> CloudEvent:
    """The CloudEvents attributes of a delivery, however much of them is missing."""
    return unwrap(delivery.headers, delivery.data, fallback_id=fallback_id(delivery))[0]


def fallback_id(delivery: Delivery) -> str:
    """Id of an event that carries none: its place in the log."""
    return f"{delivery.stream}:{delivery.sequence}"


def redo_count(headers: Mapping[str, str]) -> int:
    """How often a delivered event was redriven."""
    return min(cloudevents.read_count(headers.get(cloudevents.REDO, "")), _MAX_REDO)


def decode(delivery: Delivery, address: Address, handler: Handler) -> Incoming:
    """Decodes and validates a delivery for its handler.

    Raises:
        Undeliverable: The payload is not what the subject promises, violates its constraints, or is too deep in a
            causal chain.
    """
    event, data = unwrap(delivery.headers, delivery.data, fallback_id=fallback_id(delivery))
    name = handler.event.full_name
    try:
        message = parse(handler.event.message, event.content_type, data)
    except ValueError as error:
        raise Undeliverable(f"{delivery.subject} is not a {name}: {error}", code="undecodable", object=name) from error
    if event.hops > cloudevents.MAX_HOPS:
        reason = f"{event.hops} hops lie between this event and its root, {cloudevents.MAX_HOPS} are allowed"
        raise Undeliverable(reason, code="too_many_hops", object=name)
    try:
        validate(message)
        key = handler.event.key(message)
    except ContractError as error:
        raise Undeliverable(str(error), code="invalid", object=name) from error
    if key != address.key:
        reason = f"{name} came under a key that is not the value of its field {handler.event.key_field}"
        raise Undeliverable(reason, code="invalid", object=name)
    return Incoming(handler, event, message, key, redo_count(delivery.headers), delivery.sequence)


class Router:
    """The handlers of an agent by the subjects that reach them.

    Args:
        namespace: Where the agent lives.
        agent: Name of the agent.
        handlers: Its handlers.
    """

    def __init__(self, namespace: Namespace, agent: str, handlers: tuple[Handler, ...]) -> None:
        self._namespace = namespace
        self._agent = agent
        self._handlers = {(h.event.domain.name, h.event.name): h for h in handlers}

    def address(self, subject: str) -> Address | None:
        """The address of a subject that this agent may be sent; None for all others."""
        address = self._namespace.parse(subject)
        if address is None or address.kind not in ("evt", "cmd", "redo", "due"):
            return None
        return None if address.agent not in ("", self._agent) else address

    def handler(self, address: Address) -> Handler | None:
        """The handler of an address; None when this version of the agent has none."""
        handler = self._handlers.get((address.domain, address.name))
        return handler if handler and address.kind in (handler.event.kind, "redo") else None
