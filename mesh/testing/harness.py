"""Runs the handlers of one agent in a test, with the rules of the runtime and without a server."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic_core import to_json

from mesh.agent.agent import Agent
from mesh.agent.settlement import RetryPolicy
from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import EventType, Kind
from mesh.contract.generated import event_type
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.errors import UsageError
from mesh.runtime.execution import Environment, Execution
from mesh.runtime.gate import Gate
from mesh.runtime.incoming import Router, decode
from mesh.runtime.journal import Journal
from mesh.runtime.ports import Stored, Write
from mesh.telemetry.setup import NoTracing
from mesh.testing.memory import MemoryDelivery, MemoryLog
from mesh.v1.decision_pb2 import Decision
from mesh.v1.log_pb2 import StepId


@dataclass(frozen=True, slots=True)
class Result:
    """What one handling committed.

    Attributes:
        emitted: The outputs, in order.
        scheduled: The outputs at a later time, with that time.
        decisions: The decisions.
        state: The state that was written.
        steps: Names of the steps and effects that the handler asked for, in order.
    """

    emitted: list[Message]
    scheduled: list[tuple[Message, datetime]]
    decisions: list[Decision]
    state: list[Message]
    steps: list[str]

    def emitted_of[M: Message](self, message: type[M]) -> list[M]:
        """The outputs of one type."""
        return [output for output in self.emitted if isinstance(output, message)]


class Harness:
    """An agent under test: `result = await Harness(agent).handle(LeadCaptured(…))`.

    State and decisions last from one `handle` to the next. An exception of the handler reaches the test.

    Args:
        agent: The agent.
        state: State that is there before.
        steps: Results of steps and effects by name; one that is not named here is really called.
        resources: What `ctx.resources` is; the agent's lifespan is not run.
    """

    def __init__(
        self,
        agent: Agent[Any],
        *,
        state: Iterable[Message] = (),
        steps: Mapping[str, object] | None = None,
        resources: object = None,
    ) -> None:
        self._agent = agent
        self._namespace = Namespace()
        self._log = MemoryLog()
        env = Environment(self._namespace, self._log, NoTracing(), RetryPolicy(), Gate())
        self._execution = Execution(env, agent, resources)
        self._router = Router(self._namespace, agent.name, agent.handlers)
        self._steps = dict(steps or {})
        self._initial = list(state)

    async def handle(self, message: Message, *, id: str | None = None) -> Result:  # noqa: A002 - CloudEvents' word
        """Runs the handler of an event or a command, and commits what it did.

        Args:
            message: The event or command.
            id: Its id; handling the same id twice changes nothing the second time.

        Raises:
            UsageError: The agent has no handler for it.
            ContractError: The message violates its constraints.
            Exception: Whatever the handler raised.
        """
        await self._set_up()
        kind = event_type(type(message))
        stream = self._namespace.stream(kind.domain.name)
        before = {stored.sequence for stored in self._log.streams[stream]}
        event_id = id or new_id()
        event = CloudEvent(event_id, "/tests", kind.full_name, f"{kind.entity_type}/{kind.key(message)}", event_id)
        delivery = MemoryDelivery(
            kind.subject(self._namespace, kind.key(message)), message.SerializeToString(), event.headers(), stream
        )
        address = self._router.address(delivery.subject)
        handler = self._router.handler(address) if address else None
        if address is None or handler is None:
            raise UsageError(
                f"agent {self._agent.name} has no handler for {kind.full_name}",
                code="no_handler",
                object=kind.full_name,
                cure=f"it handles {', '.join(h.event.full_name for h in self._agent.handlers)}",
            )
        journal = _ScriptedJournal(self._log, self._namespace, self._agent.name, event_id, self._steps)
        await self._execution.execute(delivery, address, decode(delivery, address, handler), journal)
        written = [stored for stored in self._log.streams[stream] if stored.sequence not in before]
        return self._result(written, handler.emits, journal.asked)

    def state[M: Message](self, state: type[M], key: str | int) -> M | None:
        """The state of an entity, or None."""
        kind = event_type(state)
        subject = kind.subject(self._namespace, str(key))
        for stored in reversed(self._log.streams[self._namespace.stream(kind.domain.name)]):
            if stored.subject == subject:
                return None if stored.is_deletion else state.FromString(stored.data)
        return None

    async def _set_up(self) -> None:
        while self._initial:
            message = self._initial.pop()
            kind = event_type(type(message))
            write = Write(kind.subject(self._namespace, kind.key(message)), message.SerializeToString())
            await self._log.commit(self._namespace.stream(kind.domain.name), [write])

    @staticmethod
    def _result(written: list[Stored], emits: tuple[EventType, ...], steps: list[str]) -> Result:
        emitted: list[Message] = []
        scheduled: list[tuple[Message, datetime]] = []
        decisions: list[Decision] = []
        state: list[Message] = []
        types = {kind.full_name: kind for kind in emits}
        for stored in written:
            place = stored.subject.split(".")[2]
            kind = types.get(stored.headers.get("ce-type", ""))
            if kind and "Nats-Schedule" in stored.headers:
                at = datetime.fromisoformat(stored.headers["Nats-Schedule"].removeprefix("@at "))
                scheduled.append((kind.message.FromString(stored.data), at))
            elif kind:
                emitted.append(kind.message.FromString(stored.data))
            elif place == "dec":
                decisions.append(Decision.FromString(stored.data))
            elif place == Kind.STATE and not stored.is_deletion:
                name = stored.headers["ce-type"]
                state.append(GetMessageClass(Default().FindMessageTypeByName(name)).FromString(stored.data))
        return Result(emitted, scheduled, decisions, state, steps)


class _ScriptedJournal(Journal):
    """Answers the steps of a script, and remembers which steps were asked for."""

    def __init__(
        self, log: MemoryLog, namespace: Namespace, agent: str, event_id: str, script: Mapping[str, object]
    ) -> None:
        super().__init__(log, namespace, agent, event_id, is_new=True)
        self._script = script
        self.asked: list[str] = []

    async def recall(self, step: StepId) -> tuple[str, bytes] | None:
        if step.name not in self.asked:
            self.asked.append(step.name)
        if step.name not in self._script:
            return await super().recall(step)
        value = self._script[step.name]
        if isinstance(value, Message):
            return value.DESCRIPTOR.full_name, value.SerializeToString()
        return "", to_json(value)
