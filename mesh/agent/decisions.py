"""`ctx.decide` and `ctx.decisions`: choices on questions about entities, kept with evidence and never lost."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from mesh.contract.cloudevents import CloudEvent
from mesh.contract.ids import output_id
from mesh.errors import UsageError
from mesh.v1.decision_pb2 import Decision

type ReadDecisions = Callable[[str, str], Awaitable[tuple[list[Decision], int]]]
"""Reads the decisions on (question, entity), oldest first, and the sequence of the last; 0 when there is none."""

_QUESTION = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(slots=True)
class Thread:
    """The decisions on one question about one entity, as a handling sees them.

    Attributes:
        question: What is to be decided.
        entity: `<entity type>/<key>`.
        sequence: Sequence of the last decision that was read; the commit holds only while it is the last.
        decisions: Oldest first, own ones included.
        shown: The handler has asked for them.
        taken: The decision of this handling, when it took one.
    """

    question: str
    entity: str
    sequence: int
    decisions: list[Decision]
    shown: bool = False
    taken: Decision | None = None


class Decisions:
    """The decisions of one run of a handler.

    Args:
        agent: Who decides.
        event: What is being handled.
        entity: What decisions are about unless they say otherwise.
        read: Reads earlier decisions.
    """

    def __init__(self, agent: str, event: CloudEvent, entity: str, read: ReadDecisions) -> None:
        self._agent = agent
        self._event = event
        self._entity = entity
        self._read = read
        self._threads: dict[tuple[str, str], Thread] = {}
        self._count = 0

    @property
    def threads(self) -> list[Thread]:
        """Every question that was read or decided, in order."""
        return list(self._threads.values())

    async def history(self, question: str, entity: str | None) -> list[Decision]:
        """See `mesh.agent.context.Context.decisions`."""
        thread = await self._thread(question, entity)
        thread.shown = True
        return list(thread.decisions)

    async def decide(
        self,
        question: str,
        choice: str,
        because: str,
        *,
        confidence: float | None,
        evidence: Iterable[str],
        alternatives: Iterable[str],
        entity: str | None,
        model: str,
        tokens: tuple[int, int],
    ) -> Decision:
        """See `mesh.agent.context.Context.decide`."""
        if not choice:
            raise UsageError(f"a decision on {question!r} needs a choice", object=question, cure="pass choice=…")
        if confidence is not None and not 0 <= confidence <= 1:
            raise UsageError(f"confidence {confidence} is not in 0..1", object=question, cure="use a probability")
        thread = await self._thread(question, entity)
        if thread.taken:
            raise UsageError(
                f"{question!r} about {thread.entity} is decided twice in one handling",
                code="decided_twice",
                object=question,
                cure="decide once, after weighing everything",
            )
        last = thread.decisions[-1] if thread.decisions else None
        decision = Decision(
            id=output_id(self._event.source, self._event.id, f"{self._agent}/decision", self._count),
            question=question,
            entity=thread.entity,
            choice=choice,
            because=because,
            confidence=confidence,
            evidence=[*evidence] or [self._event.id],
            alternatives=alternatives,
            agent=self._agent,
            event_id=self._event.id,
            overrides=last.id if last else "",
            had_seen=thread.shown and last is not None,
            model=model,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
        )
        decision.time.GetCurrentTime()
        self._count += 1
        thread.decisions.append(decision)
        thread.taken = decision
        return decision

    async def _thread(self, question: str, entity: str | None) -> Thread:
        entity = entity or self._entity
        if not _QUESTION.fullmatch(question):
            raise UsageError(
                f"{question!r} is not the name of a question",
                code="bad_question",
                object=question,
                cure="use a lower-case letter followed by letters, digits, dashes or underscores",
            )
        kind, slash, key = entity.partition("/")
        if not (kind and slash and key):
            raise UsageError(f"{entity!r} is not an entity", code="bad_entity", object=entity, cure="write lead/42")
        found = self._threads.get((question, entity))
        if found is None:
            decisions, sequence = await self._read(question, entity)
            found = self._threads.setdefault((question, entity), Thread(question, entity, sequence, decisions))
        return found
