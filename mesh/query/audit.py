"""Audit: what agents did with the events of a namespace, and whether anything is lost, repeated or out of thin air.

Two witnesses are asked, the streams and their durable consumers; the consumers first, so that what they call settled is
in the log when that is read.

What is counted, by domain and agent:

* handled: events in the log that the agent settled, minus those it gave up. Not every handling leaves a trace, so this
  is what the consumer says: events on its filters up to the last one delivered, minus what is unsettled, and never more
  than it delivered, for what lay there before a filter was added was passed over. A redriven event counts once, a
  discarded dead letter as handled.
* answered: events in the log with a commit in the log: an output, a decision or a `done` record. It is below
  `handled` where handlers do nothing, or their answers have aged out.
* dead: dead letters in the log. pending: what waits, runs, or waits for another attempt, timers included.

What must not be found, and how sure that is:

* Duplicate ids: of events and commands, by type and id, as long as both are in the log.
* Orphan causes: of what agents wrote. A cause may have aged out, so it is missed only if it must be younger than that:
  nothing has aged out of any stream, or the root of its correlation is still there, or its own UUIDv7 or that of the
  root tells its age. Where none of this is known, nothing is said.
* Double commits: every commit writes a message that names its input, and writes all of its messages in one batch, or
  is a single message. So effects of one input by one agent in different batches are two commits, unless a timer
  published one of them. State is seen as long as it is not overwritten. Two commits of one input in the same batch
  would not be seen; no process has an event twice at the same time. Nothing is said about inputs that have aged out.
* Decision gaps: decisions never age out, so this is certain.
* Lost outputs: those whose input was settled before the log was read, and that are too young to have aged out of the
  other domain. An input behind another one that is unsettled may be unsettled too, so it is left out.
* Shared commands: by what two agents committed or gave up. Handlers that do nothing leave no trace.

Effects name the id of their cause and nothing else. Where several events have the same id, it cannot be told which of
them was handled twice, or by whom, and nothing is said.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mesh.contract.cloudevents import STRUCTURED_JSON, CloudEvent
from mesh.contract.namespace import Namespace
from mesh.contract.payload import unwrap
from mesh.jetstream.api import Api, parse_time
from mesh.jetstream.connection import Connection
from mesh.jetstream.registry import Registry
from mesh.jetstream.scan import scan
from mesh.query.domains import domain_streams
from mesh.query.find import made_at
from mesh.query.ledger import Effect, Extent, Ledger
from mesh.query.tally import Progress, Tallies, Tally
from mesh.query.violation import Invariant, Violation
from mesh.runtime.ports import Stored

_MARGIN: Final = timedelta(hours=1)
"""How long an audit may take; what is so close to ageing out is not missed."""
_CLOCK_SKEW: Final = timedelta(minutes=1)
_FOR_EVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DomainAudit:
    """What was found in a domain.

    Attributes:
        domain: Its name.
        stream: Its stream.
        events: Events and commands in the log.
        agents: How they fared, by agent.
        violations: What breaks an invariant, by invariant and in the order of the log.
    """

    domain: str
    stream: str
    events: int
    agents: tuple[Tally, ...]
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes:
        domains: By name.
    """

    domains: tuple[DomainAudit, ...]

    @property
    def broken(self) -> dict[Invariant, int]:
        """How often each invariant is broken."""
        found = Counter(violation.invariant for domain in self.domains for violation in domain.violations)
        return {invariant: found[invariant] for invariant in Invariant}


async def audit(connection: Connection, namespace: Namespace, domains: Collection[str]) -> Audit:
    """Audits domains; see the module. Agents may run meanwhile.

    The headers of all streams of the namespace are read, those of other domains for causes and outputs. Some 300 bytes
    per event are kept in memory.

    Args:
        connection: To the server.
        namespace: Whose domains.
        domains: Names of the domains to report on; one without a stream has nothing to report.

    Raises:
        Unreachable: NATS does not answer.
    """
    api = Api(connection)
    streams = await domain_streams(connection, namespace)
    agents = {declaration.name for declaration in await Registry(connection, namespace).agents()}
    ledgers = []
    for domain, stream in streams.items():
        tallies = Tallies(await _progress(api, stream, agents))
        ledgers.append(Ledger(namespace, domain, streams, await _extent(api, stream), tallies))
    for ledger in ledgers:
        await _read(connection, namespace, ledger)
    return Audit(tuple(report(ledger, ledgers) for ledger in ledgers if ledger.domain in domains))


async def _extent(api: Api, stream: str) -> Extent:
    info = await api.call(f"STREAM.INFO.{stream}")
    age = timedelta(microseconds=info["config"]["max_age"] // 1000)
    return Extent(
        stream=stream,
        first=info["state"]["first_seq"],
        last=info["state"]["last_seq"],
        created=parse_time(info["created"]),
        limit=parse_time(info["ts"]) - age + _MARGIN if age else _FOR_EVER,
    )


async def _progress(api: Api, stream: str, agents: Collection[str]) -> list[Progress]:
    """The durable consumers of agents."""
    found = []
    offset, total = 0, 1
    while offset < total:
        page = await api.call(f"CONSUMER.LIST.{stream}", {"offset": offset})
        for info in page["consumers"] or ():
            agent = info["name"].partition("--")[0]
            if agent in agents:
                found.append(_read_progress(agent, info))
        offset, total = offset + page["limit"], page["total"]
    return found


def _read_progress(agent: str, info: dict[str, Any]) -> Progress:
    config = info["config"]
    starts = {"new": info["created"], "by_start_time": config.get("opt_start_time")}
    start = starts.get(config["deliver_policy"])
    return Progress(
        agent=agent,
        filters=config.get("filter_subjects") or [config["filter_subject"]],
        start=parse_time(start) if start else None,
        floor=info["ack_floor"]["stream_seq"],
        delivered=info["delivered"]["stream_seq"],
        deliveries=info["delivered"]["consumer_seq"],
        unsettled=info["num_ack_pending"],
        waiting=info["num_pending"],
    )


async def _read(connection: Connection, namespace: Namespace, ledger: Ledger) -> None:
    stream, api = ledger.extent.stream, Api(connection)
    async with scan(connection, stream, [namespace.domain(ledger.domain)], headers_only=True) as heads:
        async for head in heads:
            ledger.take(head, await _attributes(api, ledger, head))
    if filters := [namespace.every_decision(ledger.domain, kind) for kind in ledger.entity_types]:
        async with scan(connection, stream, filters) as decisions:
            async for stored in decisions:
                ledger.take_decision(stored)


async def _attributes(api: Api, ledger: Ledger, head: Stored) -> CloudEvent:
    """The attributes of a message, whose payload is read if they are in there."""
    place = ledger.place(head.sequence)
    event, _ = unwrap(head.headers, head.data, fallback_id=place)
    if event.content_type == STRUCTURED_JSON:
        stored = await api.message(ledger.extent.stream, seq=head.sequence) or head
        event, _ = unwrap(stored.headers, stored.data, fallback_id=place)
    return event


def report(ledger: Ledger, ledgers: Collection[Ledger]) -> DomainAudit:
    """What the books of a domain say, together with those of all domains."""
    found = [*ledger.violations, *_confirmed(ledger, ledgers), *_orphans(ledger, ledgers), *_lost(ledger, ledgers)]
    order = list(Invariant)
    return DomainAudit(
        domain=ledger.domain,
        stream=ledger.extent.stream,
        events=ledger.events,
        agents=ledger.tallies.rows(ledger.answered),
        violations=tuple(sorted(found, key=lambda violation: order.index(violation.invariant))),
    )


def _confirmed(ledger: Ledger, ledgers: Collection[Ledger]) -> Iterator[Violation]:
    for violation, cause in ledger.suspects:
        if sum(other.number(cause) for other in ledgers) == 1:
            yield violation


def _orphans(ledger: Ledger, ledgers: Collection[Ledger]) -> Iterator[Violation]:
    horizon = _horizon(ledgers)
    for stray in ledger.strays:
        known = any(other.holds(stray.cause) for other in ledgers)
        if not known and (horizon is None or any(time >= horizon for time in _earliest(stray, ledgers))):
            finding = f"{stray.agent} wrote it because of {stray.cause}, which is not in the log"
            yield Violation(Invariant.ORPHAN_CAUSE, ledger.place(stray.sequence), stray.id, finding)


def _horizon(ledgers: Collection[Ledger]) -> datetime | None:
    """What was stored later is in the log, in whatever stream; None when nothing has aged out."""
    return max((ledger.horizon for ledger in ledgers if ledger.horizon), default=None)


def _earliest(stray: Effect, ledgers: Collection[Ledger]) -> Iterator[datetime]:
    """Times before which the cause of an effect was not stored."""
    ids = {stray.cause, stray.correlation_id} - {stray.id}
    made = [time - _CLOCK_SKEW for time in map(made_at, ids) if time]
    roots = [ledger.time(stray.correlation_id) for ledger in ledgers if stray.correlation_id in ids]
    yield from (*made, *filter(None, roots))


def _lost(ledger: Ledger, ledgers: Collection[Ledger]) -> Iterator[Violation]:
    by_domain = {other.domain: other for other in ledgers}
    for effect, name, target in ledger.outputs:
        other = by_domain.get(target)
        arrived = other is not None and other.holds_event(name, effect.id)
        aged = other is not None and other.horizon is not None and effect.time < other.horizon
        if not arrived and not aged and ledger.is_settled(effect):
            where = f"not in {target}" if target else "for a domain that has no stream"
            finding = f"{effect.agent} emitted {name} {effect.id}, which is {where}"
            yield Violation(Invariant.LOST_OUTPUT, ledger.place(effect.sequence), effect.id, finding)
