"""Flows: what came of a root event, as a tree of causes and effects, from the log alone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from mesh.contract.catalog import Catalog
from mesh.contract.namespace import Namespace
from mesh.jetstream.connection import Connection
from mesh.jetstream.scan import scan
from mesh.query.domains import domain_streams
from mesh.query.record import Record, read_record


@dataclass(eq=False, slots=True)
class Step:
    """One message of a flow, with what caused it and what it caused.

    Attributes:
        record: The message.
        kind: `evt`, `cmd`, `done` (a commit that holds no event) or `dead` (a dead letter).
        cause: The step it follows from; None for a root, and where the log no longer holds the cause.
        effects: The steps that follow from it, in the order of the log.
    """

    record: Record
    kind: str
    cause: "Step | None" = field(default=None, repr=False)
    effects: "list[Step]" = field(default_factory=list)

    @property
    def latency(self) -> timedelta | None:
        """From the moment its stream stored the cause to the moment its stream stored this; None without a cause."""
        return self.record.time - self.cause.record.time if self.cause else None

    def walk(self) -> "Iterator[Step]":
        """This step and all that follows from it: each cause before its effects."""
        yield self
        for effect in self.effects:
            yield from effect.walk()


@dataclass(eq=False, slots=True)
class Flow:
    """Everything that shares a correlation id.

    Attributes:
        correlation_id: Id of the root event.
        roots: Steps without a cause in the log. Usually one; more when several roots were published with the same id,
            or the log no longer holds the first steps.
    """

    correlation_id: str
    roots: list[Step] = field(default_factory=list)

    def walk(self) -> Iterator[Step]:
        """All steps: each cause before its effects."""
        for root in self.roots:
            yield from root.walk()


async def read_flows(
    connection: Connection, namespace: Namespace, catalog: Catalog, domains: Iterable[str]
) -> list[Flow]:
    """Reads all flows of some domains, as they are at this moment. Everything is held in memory.

    Args:
        connection: To the server.
        namespace: Where to read.
        catalog: Contracts to decode with.
        domains: Names of the domains; one without a stream has no flows. What a flow left in other domains is missing.

    Returns:
        The flows, in the order of their first step.

    Raises:
        Unreachable: NATS does not answer.
    """
    streams = await domain_streams(connection, namespace)
    records: list[Record] = []
    for domain in sorted(streams.keys() & set(domains)):
        records += await _read(connection, namespace, catalog, domain, streams[domain])
    return build_flows(namespace, records)


def build_flows(namespace: Namespace, records: Iterable[Record]) -> list[Flow]:
    """Puts records together to flows; see `read_flows`. Records of one stream come in the order of that stream."""
    correlated: dict[str, list[Step]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.time):
        if address := namespace.parse(record.subject):
            correlated[record.correlation_id].append(Step(record, address.kind))
    return [Flow(correlation_id, _link(steps)) for correlation_id, steps in correlated.items()]


def _link(steps: list[Step]) -> list[Step]:
    """Connects the steps of one correlation and returns the roots."""
    by_id: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_id[step.record.id].append(step)
    roots: list[Step] = []
    for step in steps:
        step.cause = _cause(step.record, by_id.get(step.record.causation_id, []))
        (step.cause.effects if step.cause else roots).append(step)
    return roots


def _cause(record: Record, candidates: Sequence[Step]) -> Step | None:
    """Where several messages have the id of the cause, the last one before the record in its own stream is meant."""
    home = [s for s in candidates if s.record.stream == record.stream and s.record.seq < record.seq]
    away = [s for s in candidates if s.record.stream != record.stream]
    return next(iter(home[::-1] + away), None)


async def _read(
    connection: Connection, namespace: Namespace, catalog: Catalog, domain: str, stream: str
) -> list[Record]:
    filters = [namespace.every(domain, kind, "*") for kind in ("evt", "cmd", "done")]
    async with scan(connection, stream, [*filters, namespace.every_dead(domain)]) as messages:
        found = [read_record(namespace, catalog, stream, stored) async for stored in messages]
    return [record for record in found if record]
