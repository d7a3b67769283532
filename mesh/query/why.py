"""Why: the decisions on an entity, with what they rest on and what they override."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mesh.contract.catalog import Catalog
from mesh.contract.event_type import EventType
from mesh.contract.namespace import Namespace
from mesh.errors import NotFound, UsageError
from mesh.jetstream.connection import Connection
from mesh.jetstream.scan import scan
from mesh.query.decoder import Decoder
from mesh.query.domains import domain_streams
from mesh.query.find import Finder
from mesh.query.record import Record, read_record
from mesh.v1.decision_pb2 import Decision

type Decided = tuple[Record, Decision]
"""A decision and its place in the log."""

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Reference:
    """An event that a decision names.

    Attributes:
        event_id: Its `ce-id`.
        event: The event; None when the log does not hold it any more.
        contract: The type of the event; None when it is not known.
    """

    event_id: str
    event: Record | None
    contract: EventType | None

    def as_json(self, *, show_pii: bool = False) -> dict[str, Any]:
        """The reference as JSON values; personal data is masked unless `show_pii`."""
        return {"id": self.event_id, "event": self.event.as_json(show_pii=show_pii) if self.event else None}


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision and what it refers to.

    Attributes:
        decision: The decision.
        record: Its place in the log, and when the stream stored it.
        handled: The event that was being handled.
        evidence: The events that it rests on.
        overridden: The decision that it replaces; None for the first.
    """

    decision: Decision
    record: Record
    handled: Reference
    evidence: list[Reference]
    overridden: Decision | None

    def as_json(self, *, show_pii: bool = False) -> dict[str, Any]:
        """The choice as JSON values; personal data of events is masked unless `show_pii`."""
        decision, record, overridden = self.decision, self.record, self.overridden
        return {
            "id": decision.id,
            "time": record.time.isoformat(),
            "agent": decision.agent,
            "choice": decision.choice,
            "because": decision.because,
            "confidence": decision.confidence if decision.HasField("confidence") else None,
            "alternatives": list(decision.alternatives),
            "model": decision.model,
            "input_tokens": decision.input_tokens,
            "output_tokens": decision.output_tokens,
            "overrides": {"id": overridden.id, "agent": overridden.agent, "choice": overridden.choice}
            if overridden
            else None,
            "had_seen": decision.had_seen,
            "handled": self.handled.as_json(show_pii=show_pii),
            "evidence": [event.as_json(show_pii=show_pii) for event in self.evidence],
            "correlation_id": record.correlation_id,
            "stream": record.stream,
            "seq": record.seq,
        }


@dataclass(frozen=True, slots=True)
class Question:
    """A question about an entity, and how it was decided.

    Attributes:
        domain: The domain that it was decided in.
        name: What was to be decided.
        choices: Oldest first; the last one holds.
    """

    domain: str
    name: str
    choices: list[Choice]

    def as_json(self, *, show_pii: bool = False) -> dict[str, Any]:
        """The question as JSON values; personal data of events is masked unless `show_pii`."""
        decisions = [
            choice.as_json(show_pii=show_pii) | {"holds": choice is self.choices[-1]} for choice in self.choices
        ]
        return {"question": self.name, "domain": self.domain, "decisions": decisions}


async def read_questions(
    connection: Connection,
    namespace: Namespace,
    entity: str,
    *,
    question: str | None = None,
    domain: str | None = None,
) -> list[Question]:
    """Reads the decisions on an entity.

    What they refer to costs little where it has the same key; anything else is searched for, see `Finder.events`.

    Args:
        connection: To the server.
        namespace: Where to read.
        entity: `lead/42`.
        question: Only this question.
        domain: Only decisions that were taken in this domain.

    Returns:
        The questions by domain and name, at least one.

    Raises:
        UsageError: The entity has another form.
        NotFound: There is no such decision.
        Unreachable: NATS does not answer.
    """
    entity_type, _, key = entity.partition("/")
    if not (entity_type and key):
        raise UsageError(f"{entity!r} is not an entity", code="bad_entity", object=entity, cure="write lead/42")
    streams = await domain_streams(connection, namespace, domain)
    threads = await _read_threads(connection, namespace, streams, entity_type, key)
    wanted = {place: thread for place, thread in threads.items() if question in (None, place[1])}
    if not wanted:
        others = sorted({name for _, name in threads}) or await _decided(connection, namespace, streams, entity_type)
        raise NotFound(
            f"nobody has decided {question} about {entity}" if question else f"nobody has decided about {entity}",
            object=entity,
            cure=f"ask for {' or '.join(others)}" if others else "decide in an agent: ctx.decide",
        )
    references = await _references(connection, namespace, key, list(chain.from_iterable(wanted.values())))
    return [Question(place[0], place[1], _choices(thread, references)) for place, thread in sorted(wanted.items())]


async def _read_threads(
    connection: Connection, namespace: Namespace, streams: Mapping[str, str], entity_type: str, key: str
) -> dict[tuple[str, str], list[Decided]]:
    """The decisions about an entity, oldest first, by domain and question."""
    threads: dict[tuple[str, str], list[Decided]] = defaultdict(list)
    for domain, stream in streams.items():
        async with scan(connection, stream, [namespace.every_decision(domain, entity_type, key)]) as messages:
            async for stored in messages:
                record = read_record(namespace, Catalog(), stream, stored)
                if record and isinstance(record.message, Decision):
                    threads[domain, record.message.question].append((record, record.message))
    return threads


async def _decided(
    connection: Connection, namespace: Namespace, streams: Mapping[str, str], entity_type: str
) -> list[str]:
    """Some entities of a type that somebody has decided about."""
    found: list[str] = []
    for domain, stream in streams.items():
        filters = [namespace.every_decision(domain, entity_type)]
        async with scan(connection, stream, filters, headers_only=True) as heads:
            async for head in heads:
                address = namespace.parse(head.subject)
                if address and address.key not in found:
                    found.append(address.key)
                if len(found) == _EXAMPLES:
                    return found
    return found


async def _references(
    connection: Connection, namespace: Namespace, key: str, decided: list[Decided]
) -> dict[str, Reference]:
    """Everything that decisions refer to, by id."""
    event_ids = {event_id for _, decision in decided for event_id in (decision.event_id, *decision.evidence)}
    until = max(record.time for record, _ in decided)
    found = await Finder(connection, namespace).events(event_ids, key=key, until=until)
    decoder = Decoder(connection, namespace)
    references: dict[str, Reference] = {}
    for event_id in event_ids:
        event = await decoder.decode(*found[event_id]) if event_id in found else None
        references[event_id] = Reference(event_id, event, decoder.contract(event) if event else None)
    return references


def _choices(thread: list[Decided], references: Mapping[str, Reference]) -> list[Choice]:
    by_id = {decision.id: decision for _, decision in thread}
    return [
        Choice(
            decision,
            record,
            handled=references[decision.event_id],
            evidence=[references[event_id] for event_id in decision.evidence],
            overridden=by_id.get(decision.overrides),
        )
        for record, decision in thread
    ]
