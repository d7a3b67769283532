"""What a handler is given besides its event."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, overload

from google.protobuf.message import Message
from typing_extensions import TypeVar

from mesh.agent.claims import Claims
from mesh.agent.decisions import Decisions
from mesh.agent.handler import Handler
from mesh.agent.state import State
from mesh.agent.steps import Steps
from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import EventType, Kind
from mesh.contract.generated import event_type
from mesh.contract.validation import validate
from mesh.errors import UsageError
from mesh.v1.decision_pb2 import Decision

R = TypeVar("R", default=Any)


class Output(NamedTuple):
    """Something that a handling emits.

    Attributes:
        kind: Its type.
        message: Its payload.
        at: When it becomes visible; None for with the commit.
        awaited: Type and key of the event that makes it void when it comes before.
    """

    kind: EventType
    message: Message
    at: datetime | None = None
    awaited: tuple[EventType, str] | None = None


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
        outputs: What was emitted so far.
        decided: The decisions that were read and taken.
        claims: The claims that are held.
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
        decisions: Decisions,
        claims: Claims,
        steps: Steps,
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
        self.outputs: list[Output] = []
        self.decided = decisions
        self.claims = claims
        self._handler = handler
        self._steps = steps

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

    def emit(self, message: Message, *, delay: float | timedelta | None = None, at: datetime | None = None) -> None:
        """Adds an output. It becomes visible with the commit of the handling, together with everything else.

        Args:
            message: The event or command.
            delay: Seconds (or a `timedelta`) after which it becomes visible instead.
            at: The time at which it becomes visible instead.

        Raises:
            UsageError: The handler does not declare that it emits this type.
            ContractError: The message violates its constraints, or its key is empty.
        """
        if delay is not None:
            at = datetime.now(UTC) + timedelta(seconds=_seconds(delay))
        self._add(message, at)

    def expect(
        self,
        event: type[Message],
        *,
        within: float | timedelta,
        otherwise: Message,
        key: str | int | None = None,
    ) -> None:
        """Emits `otherwise` unless an event comes in time: a reminder, an escalation, a default.

        What counts is the order in the log: an event that is stored after this one and before the time is up is an
        answer, and nothing is emitted. One that comes later finds `otherwise` emitted.

        Args:
            event: The event that is awaited, of the domain of the handled event.
            within: Seconds (or a `timedelta`) from now.
            otherwise: What is emitted when it does not come; declared like every output.
            key: Key of the awaited event; that of the handled event when not given.

        Raises:
            UsageError: The awaited event is of another domain, or `otherwise` is not declared.
            ContractError: `otherwise` violates its constraints.
        """
        awaited = event_type(event)
        if awaited.domain.name != self._handler.event.domain.name or awaited.kind is Kind.STATE:
            raise UsageError(
                f"{awaited.full_name} cannot be awaited by a handler of {self._handler.event.full_name}",
                code="foreign_expectation",
                object=awaited.full_name,
                cure=f"await an event or a command of the domain {self._handler.event.domain.name}",
            )
        at = datetime.now(UTC) + timedelta(seconds=_seconds(within))
        self._add(otherwise, at, (awaited, self.key if key is None else str(key)))

    def _add(self, message: Message, at: datetime | None, awaited: tuple[EventType, str] | None = None) -> None:
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
        # A copy: the message is the handler's, which may change and emit it again.
        self.outputs.append(Output(kind, deepcopy(message), at, awaited))

    @overload
    async def step[**P, T](
        self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def step[**P, T](self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function whose result is written down before it is used, e.g. a model.

        When the event is delivered again, the call is not made again: a step is its name, its arguments and how often
        it was called with them. Other arguments, for example fresh state, make another step. A plain function runs
        in a thread.

        Args:
            name: Names the step in the journal and in traces.
            function: What is called; its return annotation says how the result is read back.
            *args: Its arguments: JSON values, pydantic models or Protobuf messages.
            **kwargs: Its keyword arguments.

        Returns:
            What the function returned, after a round trip through the journal.

        Raises:
            UsageError: Arguments or result cannot be serialized, or the result is too large.
        """
        return await self._steps.step(name, function, args, kwargs)

    async def effect[T](
        self,
        name: str,
        function: Callable[..., Awaitable[T] | T],
        /,
        *args: Any,
        reconcile: Callable[[str], Awaitable[T | None] | T | None] | None = None,
        **kwargs: Any,
    ) -> T:
        """Makes a call that must not happen twice, e.g. a payment.

        The intention is written down first. When a process dies between that and the result, the next one asks
        `reconcile`; without it the event is parked as a dead letter until a human has looked. An exception of the
        function leaves open whether the call happened; `Retry` and `Reject` say that it did not.

        Args:
            name: Names the effect in the journal and in traces.
            function: What is called, with `idempotency_key=`, which is the same in every attempt.
            *args: Its arguments: JSON values, pydantic models or Protobuf messages.
            reconcile: Takes the idempotency key and returns the result of the call, or None if it did not happen.
            **kwargs: Its keyword arguments.

        Returns:
            What the function returned, after a round trip through the journal.

        Raises:
            EffectUnsettled: An earlier run began the call and nobody knows whether it happened.
            UsageError: Arguments or result cannot be serialized, or the result is too large.
        """
        result: T = await self._steps.effect(name, function, args, kwargs, reconcile)
        return result

    async def decisions(self, question: str, *, entity: str | None = None) -> list[Decision]:
        """The decisions on a question about an entity, oldest first; the last one holds.

        Args:
            question: What was decided, e.g. `discount`.
            entity: `lead/42`; what the event is about when not given.
        """
        return await self.decided.history(question, entity)

    async def decide(
        self,
        question: str,
        choice: str,
        *,
        because: str,
        confidence: float | None = None,
        evidence: Iterable[str] = (),
        alternatives: Iterable[str] = (),
        entity: str | None = None,
        model: str = "",
        tokens: tuple[int, int] = (0, 0),
    ) -> Decision:
        """Decides a question about an entity; the decision becomes visible with the commit.

        It names the decision that it overrides by itself. When somebody else decides the same question before the
        commit, the handler runs again and sees that decision.

        Args:
            question: What is decided, e.g. `discount`.
            choice: What was chosen.
            because: Why, for people.
            confidence: 0..1.
            evidence: Ids of the events it rests on; the handled event when not given.
            alternatives: What else was considered.
            entity: `lead/42`; what the event is about when not given.
            model: Model that was asked.
            tokens: Input and output tokens that the model used.

        Raises:
            UsageError: Question, entity or confidence is not legal, or the question was decided in this handling.
        """
        return await self.decided.decide(
            question,
            choice,
            because,
            confidence=confidence,
            evidence=evidence,
            alternatives=alternatives,
            entity=entity,
            model=model,
            tokens=tokens,
        )

    def claim(
        self, *keys: str, ttl: float | timedelta = 30.0, wait: float | timedelta = 0.0
    ) -> AbstractAsyncContextManager[None]:
        """Claims something for this handling: `async with ctx.claim("angle/economy", ttl=60):`.

        In the domain of the event, one handling at a time holds a key. The claim is renewed inside the block; it is
        released by the commit, and whoever lost it cannot commit. When the handling fails it ends after its ttl, or is
        taken over by the next attempt.

        Args:
            *keys: What is claimed. Several are taken in sorted order, so that claims never wait for each other.
            ttl: Seconds (or a `timedelta`), rounded to whole ones, after which a holder that died loses the claim.
            wait: Seconds (or a `timedelta`) to wait for whoever holds it.

        Raises:
            AlreadyClaimed: Somebody else holds a key. Uncaught, it makes the event come again when the claim ends.
            ClaimOrderError: The handling holds a key that comes after these.
        """
        return self.claims.claim(keys, _seconds(ttl), _seconds(wait))

    def emit_all(self, returned: Message | Iterable[Message] | None) -> None:
        """Adds what a handler returned: one message, several, or nothing.

        Raises:
            UsageError: Something else was returned, or a type that is not declared.
            ContractError: A message violates its constraints.
        """
        if returned is None:
            return
        for message in returned if isinstance(returned, Iterable) else [returned]:
            if not isinstance(message, Message):
                name = self._handler.event.full_name
                raise UsageError(
                    f"handler of {name} in agent {self.agent} returned {type(message).__name__}",
                    code="bad_output",
                    object=self.agent,
                    cure="return one message, several in a list or tuple, or None",
                )
            self.emit(message)


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
