"""The books of an audit: what the messages of one stream say, taken down one by one, in the order of the stream.

Pure counting. Ids, sequences and times are kept, no payloads; what needs the books of other streams is kept as a doubt.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from mesh.contract.cloudevents import CloudEvent, read_headers
from mesh.contract.event_type import Kind
from mesh.contract.namespace import Address, Namespace
from mesh.query.tally import Tallies
from mesh.query.violation import Invariant, Violation
from mesh.runtime.ports import Stored
from mesh.v1.decision_pb2 import Decision

_AGENTS: Final = "/agents/"
_EVENTS: Final = frozenset({Kind.EVENT, Kind.COMMAND})
_CAUSED: Final = frozenset({*_EVENTS, Kind.STATE, "out", "done", "dec", "dead"})
"""Kinds of messages that name their cause. All but dead letters are parts of a commit."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a stream held when the audit began, before any stream was read.

    Attributes:
        stream: Name of the stream.
        first: Its first sequence.
        last: Its last sequence. What came later may stem from events of other streams that were not read.
        created: When it was made.
        limit: What was stored later does not age out while the audit lasts.
    """

    stream: str
    first: int
    last: int
    created: datetime
    limit: datetime

    @property
    def is_whole(self) -> bool:
        """Whether nothing has aged out yet."""
        return self.created > self.limit and self.first <= 1


class Effect(NamedTuple):
    """A message that an agent wrote because of another one.

    Attributes:
        sequence: Its sequence.
        id: Its `ce-id`.
        agent: Who wrote it.
        cause: `ce-id` of the other one.
        correlation_id: Id of the root event of both.
        time: When it was stored.
    """

    sequence: int
    id: str
    agent: str
    cause: str
    correlation_id: str
    time: datetime


class Output(NamedTuple):
    """An output into another domain, as it was committed at home.

    Attributes:
        effect: The message.
        name: Name of the event or command.
        target: The other domain; empty when it has no stream.
    """

    effect: Effect
    name: str
    target: str


class Ledger:
    """The books of one stream.

    Args:
        namespace: Where the domain lies.
        domain: Its name.
        domains: All domains of the namespace.
        extent: What its stream held.
        tallies: Counts the events of the stream.

    Attributes:
        domain: Name of the domain.
        extent: What its stream held.
        tallies: Counts the events of the stream.
        violations: What is certain from this stream alone.
        suspects: Violations, each with the id of an input: there is none if several events share that id.
        strays: Effects whose cause is not in this stream, though it may not have aged out.
        outputs: Outputs into other domains.
        entity_types: Types of the entities that decisions are about.
    """

    def __init__(
        self, namespace: Namespace, domain: str, domains: Collection[str], extent: Extent, tallies: Tallies
    ) -> None:
        self.domain = domain
        self.extent = extent
        self.tallies = tallies
        self.violations: list[Violation] = []
        self.suspects: list[tuple[Violation, str]] = []
        self.strays: list[Effect] = []
        self.outputs: list[Output] = []
        self.entity_types: set[str] = set()
        self._namespace = namespace
        self._domains = domains
        self._events: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)  # by (kind, name) and id
        self._repeated: set[str] = set()
        self._sequences, self._times = array("q"), array("d")
        self._others: dict[str, int] = {}
        self._redone: dict[tuple[str, str], tuple[str, int]] = {}  # filters and sequences, by agent and id
        self._due: set[str] = set()
        self._batch, self._commit_start = "", 0
        self._commits: dict[str, dict[int, int]] = defaultdict(dict)  # last effects, by agent and sequence of the input
        self._takers: dict[int, list[str]] = defaultdict(list)
        self._threads: dict[tuple[str, str], tuple[str, int]] = {}

    def take(self, stored: Stored, event: CloudEvent) -> None:
        """Takes a message down, its payload does not count.

        Args:
            stored: The message.
            event: Its attributes.
        """
        self.tallies.begin(stored.sequence, stored.time)
        self._follow_batch(stored)
        address = self._namespace.parse(stored.subject)
        if address is None:
            self._others[event.id] = stored.sequence  # a tick, or what a later version adds
            return
        if address.kind in _EVENTS:
            self._take_event(address, stored, event)
        elif address.kind == "redo":
            self._take_redo(address, stored, event)
        elif address.kind == "due":
            self._due.add(event.id)
        elif address.kind == "dec":
            self.entity_types.add(address.key.partition("/")[0])
        if event.causation_id and event.source.startswith(_AGENTS) and address.kind in _CAUSED:
            agent = event.source.removeprefix(_AGENTS)
            effect = Effect(stored.sequence, event.id, agent, event.causation_id, event.correlation_id, stored.time)
            self._take_effect(address, stored.subject, effect)

    def take_decision(self, stored: Stored) -> None:
        """Takes a decision down, with its payload; those of all questions come in the order of the stream."""
        address, decision = self._namespace.parse(stored.subject), Decision()
        if address is None:
            return
        thread = (address.name, address.key)
        last_id, last = self._threads.get(thread, ("", 0))
        try:
            decision.ParseFromString(stored.data)
        except DecodeError:
            finding = "does not decode"
        else:
            self._threads[thread] = (decision.id, stored.sequence)
            if decision.overrides == last_id:
                return
            instead = f"not the one before, {self.place(last)}" if last else "which is not in the log"
            finding = f"overrides {decision.overrides or 'none'}, {instead}"
        event_id = read_headers(stored.headers, fallback_id=self.place(stored.sequence)).id
        self._report(Invariant.DECISION_GAP, stored.sequence, event_id, f"{address.name} of {address.key} {finding}")

    def place(self, sequence: int) -> str:
        """A message of the stream, as `mesh show` takes it."""
        return f"{self.extent.stream}:{sequence}"

    @property
    def events(self) -> int:
        """Events and commands in the stream."""
        return len(self._sequences)

    @property
    def answered(self) -> dict[str, int]:
        """Events with a commit in the stream, by agent."""
        return {agent: len(inputs) for agent, inputs in self._commits.items()}

    @property
    def horizon(self) -> datetime | None:
        """What was stored later is still in the stream; None when nothing has aged out.

        The first event counts too: the stream may keep its messages longer than it once did.
        """
        if self.extent.is_whole:
            return None
        return max(self.extent.limit, datetime.fromtimestamp(self._times[0], UTC)) if self._times else self.extent.limit

    def holds(self, event_id: str) -> bool:
        """Whether a message with this id may have been handled."""
        return event_id in self._others or any(event_id in ids for ids in self._events.values())

    def holds_event(self, name: str, event_id: str) -> bool:
        """Whether the event, or command, of this name and id is in the stream."""
        return any(event_id in self._events.get((kind, name), ()) for kind in _EVENTS)

    def number(self, event_id: str) -> int:
        """How many events and commands have this id; two or more where one was repeated."""
        return len(list(self._find(event_id))) + (event_id in self._repeated)

    def time(self, event_id: str) -> datetime | None:
        """When an event was stored; None when it is not in the stream."""
        for _, sequence in self._find(event_id):
            return datetime.fromtimestamp(self._times[bisect_left(self._sequences, sequence)], UTC)
        return None

    def is_settled(self, effect: Effect) -> bool:
        """Whether the agent that wrote an effect is done with what caused it."""
        deliveries = [
            (self._namespace.every(self.domain, *name), sequence) for name, sequence in self._find(effect.cause)
        ]
        if redone := self._redone.get((effect.agent, effect.cause)):
            deliveries.append(redone)
        return all(self.tallies.is_settled(effect.agent, *delivery) for delivery in deliveries)

    def _follow_batch(self, stored: Stored) -> None:
        """Notes where the commit that a message may be part of begins: with its batch, or with itself."""
        batch = stored.headers.get("Nats-Batch-Id", "")
        if not batch or batch != self._batch:
            self._batch, self._commit_start = batch, stored.sequence

    def _find(self, event_id: str) -> Iterator[tuple[tuple[str, str], int]]:
        """The events with an id: kind and name, and sequence of the first."""
        return ((name, ids[event_id]) for name, ids in self._events.items() if event_id in ids)

    def _take_event(self, address: Address, stored: Stored, event: CloudEvent) -> None:
        self._sequences.append(stored.sequence)
        self._times.append(stored.time.timestamp())
        self.tallies.event(self._namespace.every(self.domain, address.kind, address.name), stored.sequence)
        first = self._events[address.kind, address.name].setdefault(event.id, stored.sequence)
        if first != stored.sequence:
            self._repeated.add(event.id)
            finding = f"{address.name} {event.id} lies at {self.place(first)} too"
            self._report(Invariant.DUPLICATE_ID, stored.sequence, event.id, finding)

    def _take_redo(self, address: Address, stored: Stored, event: CloudEvent) -> None:
        subject = self._namespace.every_redo(self.domain, address.agent, address.name)
        self.tallies.redo(subject, stored.sequence, [sequence for _, sequence in self._find(event.id)])
        self._others[event.id] = stored.sequence
        self._redone[address.agent, event.id] = (subject, stored.sequence)

    def _take_effect(self, address: Address, subject: str, effect: Effect) -> None:
        if address.kind == "out":
            self.outputs.append(Output(effect, address.name, self._target(address, subject)))
        redone = (("", ""), self._others.get(effect.cause, 0))
        (kind, name), sequence = next(self._find(effect.cause), redone)
        is_event = kind in _EVENTS
        if address.kind == "dead":
            self.tallies.dead_letter(effect.agent, held=is_event)
        elif sequence and effect.id not in self._due:
            self._take_commit(effect, sequence, is_sure=is_event)
        if kind == Kind.COMMAND:
            self._take_taker(effect, name, sequence)
        if not sequence and effect.sequence <= self.extent.last and effect.time > self.extent.limit:
            self.strays.append(effect)

    def _take_commit(self, effect: Effect, sequence: int, *, is_sure: bool) -> None:
        last = self._commits[effect.agent].get(sequence)
        self._commits[effect.agent][sequence] = effect.sequence
        if is_sure and last is not None and last < self._commit_start:
            finding = f"{effect.agent} had committed {effect.cause} at {self.place(last)}"
            self._suspect(Invariant.DOUBLE_COMMIT, effect.sequence, effect.id, finding, effect.cause)

    def _take_taker(self, effect: Effect, name: str, sequence: int) -> None:
        takers = self._takers[sequence]
        if effect.agent not in takers:
            takers.append(effect.agent)
            if len(takers) > 1:
                finding = f"{name} {effect.cause} was handled by {takers[0]} and by {effect.agent}"
                self._suspect(Invariant.SHARED_COMMAND, sequence, effect.cause, finding, effect.cause)

    def _target(self, address: Address, subject: str) -> str:
        for domain in self._domains:
            if subject.startswith(self._namespace.every_out(self.domain, domain, address.name).removesuffix("*")):
                return domain
        return ""

    def _report(self, invariant: Invariant, sequence: int, event_id: str, finding: str) -> None:
        self.violations.append(Violation(invariant, self.place(sequence), event_id, finding))

    def _suspect(self, invariant: Invariant, sequence: int, event_id: str, finding: str, cause: str) -> None:
        self.suspects.append((Violation(invariant, self.place(sequence), event_id, finding), cause))
