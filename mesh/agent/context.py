"""What a handler is given besides its event."""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic

from google.protobuf.message import Message
from typing_extensions import TypeVar

from mesh.agent.handler import Handler
from mesh.agent.state import State
from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import EventType
from mesh.contract.generated import event_type
from mesh.contract.validation import validate
from mesh.errors import UsageError

R = TypeVar("R", default=Any)


class Context(Generic[R]):
    """One handling, as the handler sees it. Made anew for every run of the handler.

    Attributes:
        event: The CloudEvents attributes of the event.
        key: Key of the event.
        entity: What the event is about: `<entity type>/<key>`.
        attempt: 1 for the first run of the handler; failed attempts count, waiting and hand-backs do not.
        deadline: When the run is cancelled, by the local clock.
        agent: Name of the agent.
        resources: What the agent's lifespan yielded.
        state: Shared state of the domain.
        log: Logger whose records carry agent, event id and correlation id.
    """

    def __init__(
        self,
        *,
        agent: str,
        handler: Handler,
        event: CloudEvent,
        key: str,
        attempt: int,
        deadline: datetime,
        resources: R,
        state: State,
    ) -> None:
        self.event = event
        self.key = key
        self.entity = f"{handler.event.entity_type}/{key}"
        self.attempt = attempt
        self.deadline = deadline
        self.agent = agent
        self.resources = resources
        self.state = state
        self.log = logging.LoggerAdapter(
            logging.getLogger(f"mesh.agents.{agent}"),
            {"agent": agent, "event_id": event.id, "correlation_id": event.correlation_id},
        )
        self.outputs: list[tuple[EventType, Message]] = []
        self._handler = handler

    @property
    def event_id(self) -> str:
        """Id of the event."""
        return self.event.id

    @property
    def correlation_id(self) -> str:
        """Id shared by all events that descend from one root."""
        return self.event.correlation_id

    @property
    def causation_id(self) -> str:
        """Id of the event that caused this one; empty for a root."""
        return self.event.causation_id

    def emit(self, message: Message) -> None:
        """Adds an output. It becomes visible with the commit of the handling, together with everything else.

        Raises:
            UsageError: The handler does not declare that it emits this type.
            ContractError: The message violates its constraints, or its key is empty.
        """
        kind = event_type(type(message))
        if kind not in self._handler.emits:
            declared = ", ".join(e.full_name for e in self._handler.emits) or "nothing"
            raise UsageError(
                f"handler of {self._handler.event.full_name} in agent {self.agent} emits {kind.full_name} "
                f"and declares {declared}",
                code="undeclared_output",
                object=kind.full_name,
                cure=f"add it to the return annotation, or write @agent.on(emits=[{kind.descriptor.name}])",
            )
        kind.key(message)
        validate(message)
        self.outputs.append((kind, message))

    def emit_all(self, returned: Message | Iterable[Message] | None) -> None:
        """Adds what a handler returned: one message, several, or nothing.

        Raises:
            UsageError: Something else was returned, or a type that is not declared.
            ContractError: A message violates its constraints.
        """
        if returned is None:
            return
        for message in [returned] if isinstance(returned, Message) else returned:
            if not isinstance(message, Message):
                name = self._handler.event.full_name
                raise UsageError(
                    f"handler of {name} in agent {self.agent} returned {type(message).__name__}",
                    code="bad_output",
                    object=self.agent,
                    cure="return one message, several in a list or tuple, or None",
                )
            self.emit(message)
