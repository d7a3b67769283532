"""How many events an agent handled, gave up, and has before it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """How the events of a domain fared with one agent.

    Attributes:
        agent: Its name.
        handled: Events that it settled and did not give up; None when it has no durable consumer in the domain.
        answered: Events with a commit in the log.
        dead: Dead letters in the log.
        pending: Messages that wait, run, or wait for another attempt; None as in `handled`.
    """

    agent: str
    handled: int | None
    answered: int
    dead: int
    pending: int | None


@dataclass(slots=True)
class Progress:
    """How far a durable consumer of an agent is.

    Attributes:
        agent: Whose it is.
        filters: Subjects it reads.
        start: When the first message that it reads was stored, at the earliest; None for all there are.
        floor: Sequence up to which everything is settled.
        delivered: Sequence of the last message that was delivered.
        deliveries: How many deliveries were made, repeated ones included.
        unsettled: Messages that are delivered and not settled.
        waiting: Messages that are not delivered.
        first: Sequence of the first message that it reads, once that is known.
        events: Events on its filters up to the last one that was delivered, as far as they are counted.
    """

    agent: str
    filters: Collection[str]
    start: datetime | None
    floor: int
    delivered: int
    deliveries: int
    unsettled: int
    waiting: int
    first: int | None = None
    events: int = 0

    def reads(self, sequence: int) -> bool:
        """Whether a message on its filters was delivered."""
        return self.first is not None and self.first <= sequence <= self.delivered

    @property
    def settled(self) -> int:
        """Events that are settled. What a filter that was added later had passed over is not."""
        return max(min(self.events, self.deliveries) - self.unsettled, 0)


class Tallies:
    """Counts the events of one domain by agent; is told of its messages in the order of the stream.

    Args:
        progress: The durable consumers of the domain, as they were before the first message was read.
    """

    def __init__(self, progress: Iterable[Progress]) -> None:
        self._progress = list(progress)
        self._unborn = list(self._progress)
        self._readers: dict[str, list[Progress]] = defaultdict(list)
        for durable in self._progress:
            for subject in durable.filters:
                self._readers[subject].append(durable)
        self._dead: Counter[str] = Counter()
        self._buried: Counter[str] = Counter()

    def begin(self, sequence: int, time: datetime) -> None:
        """Takes note of a message of any kind."""
        for durable in [p for p in self._unborn if p.start is None or p.start <= time]:
            durable.first = sequence
            self._unborn.remove(durable)

    def event(self, subject: str, sequence: int) -> None:
        """Counts an event, or a command, that is read by this filter."""
        for durable in self._readers.get(subject, ()):
            durable.events += durable.reads(sequence)

    def redo(self, subject: str, sequence: int, originals: Collection[int]) -> None:
        """Counts an event that one agent was given again, unless it is counted under one of its earlier sequences."""
        for durable in self._readers.get(subject, ()):
            durable.events += durable.reads(sequence) and not any(map(durable.reads, originals))

    def dead_letter(self, agent: str, *, held: bool) -> None:
        """Counts a dead letter, whose event the log still holds or no longer does."""
        self._dead[agent] += 1
        self._buried[agent] += held

    def is_settled(self, agent: str, subject: str, sequence: int) -> bool:
        """Whether an agent is done with a message that is read by this filter."""
        return all(p.floor >= sequence for p in self._readers.get(subject, ()) if p.agent == agent)

    def rows(self, answered: Mapping[str, int]) -> tuple[Tally, ...]:
        """The totals, by agent.

        Args:
            answered: Events with a commit in the log, by agent.
        """
        agents = {p.agent for p in self._progress} | self._dead.keys() | answered.keys()
        return tuple(self._row(agent, answered.get(agent, 0)) for agent in sorted(agents))

    def _row(self, agent: str, answered: int) -> Tally:
        own = [p for p in self._progress if p.agent == agent]
        return Tally(
            agent=agent,
            handled=max(sum(p.settled for p in own) - self._buried[agent], 0) if own else None,
            answered=answered,
            dead=self._dead[agent],
            pending=sum(p.unsettled + p.waiting for p in own) if own else None,
        )
