"""What must exist on the server for a set of agents: pure, derived from contract and handlers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mesh.agent.agent import Agent
from mesh.agent.deliver import Start
from mesh.agent.handler import Handler
from mesh.contract.event_type import Domain
from mesh.contract.namespace import Namespace
from mesh.settings import StreamSettings

type Config = dict[str, Any]
"""A stream or consumer configuration, in the server's JSON."""

_NANOS = 1_000_000_000
_MAX_CONSUMERS = 5000
BLOB_AGE = timedelta(days=14)
"""How long large results of steps are kept."""
PRESENCE_TTL = timedelta(seconds=30)
"""How long a process that says nothing counts as alive."""


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable consumer of an agent.

    Attributes:
        stream: Stream it reads.
        name: `<agent>`, or `<agent>--<event>` for a handler with its own.
        handlers: The handlers it feeds.
        filters: Subjects it reads.
        start: Where it starts to read when it is created.
    """

    stream: str
    name: str
    handlers: tuple[Handler, ...]
    filters: tuple[str, ...]
    start: Start


@dataclass(frozen=True, slots=True)
class Topology:
    """Streams, buckets and consumers.

    Attributes:
        streams: Stream configurations by name; key-value buckets are among them.
        durables: Durable consumers.
    """

    streams: dict[str, Config] = field(default_factory=dict)
    durables: tuple[Durable, ...] = ()


def topology(namespace: Namespace, settings: StreamSettings, agents: Iterable[Agent[Any]]) -> Topology:
    """What the agents need: the domains they read and write, journal, registry, presence, and their durables."""
    agents = list(agents)
    domains = {t.domain.name: t.domain for a in agents for h in a.handlers for t in (h.event, *h.emits)}
    streams = {config["name"]: config for config in base_streams(namespace, settings)}
    for domain in domains.values():
        config = domain_stream(namespace, settings, domain)
        streams[config["name"]] = config
    return Topology(streams, tuple(d for agent in agents for d in durables(namespace, agent)))


def durables(namespace: Namespace, agent: Agent[Any]) -> list[Durable]:
    """The durable consumers of an agent: one in each domain it reads, and one for each handler with its own."""
    grouped: dict[tuple[str, str], list[Handler]] = {}
    for handler in agent.handlers:
        domain = handler.event.domain.name
        own = grouped.setdefault((domain, agent.name), [])
        if handler.has_own_durable:
            own = grouped.setdefault((domain, f"{agent.name}--{handler.event.name}"), [])
        own.append(handler)
    return [_durable(namespace, agent, domain, name, handlers) for (domain, name), handlers in grouped.items()]


def _durable(namespace: Namespace, agent: Agent[Any], domain: str, name: str, handlers: list[Handler]) -> Durable:
    filters = [subject for handler in handlers for subject in _filters(namespace, agent.name, handler)]
    if name == agent.name:
        filters.append(namespace.every_due(domain, agent.name))
    start = next((handler.start for handler in handlers if handler.start), agent.start)
    return Durable(namespace.stream(domain), name, tuple(handlers), tuple(filters), start)


def _filters(namespace: Namespace, agent: str, handler: Handler) -> tuple[str, str]:
    event = handler.event
    domain = event.domain.name
    return (
        namespace.every(domain, event.kind, event.name),
        namespace.every_redo(domain, agent, event.name),
    )


def domain_stream(namespace: Namespace, settings: StreamSettings, domain: Domain) -> Config:
    """The stream of a domain. Retention is by age only: `max_bytes` would evict state whatever its TTL."""
    return _stream(namespace.stream(domain.name), namespace.domain(domain.name), settings) | {
        "max_age": _nanos(domain.max_age),
        "duplicate_window": min(int(settings.duplicate_window * _NANOS), _nanos(domain.max_age)),
        "allow_atomic": True,
        "allow_msg_schedules": True,
        "metadata": {"mesh.domain": domain.name},
    }


def base_streams(namespace: Namespace, settings: StreamSettings) -> list[Config]:
    """Journal, blobs, registry and presence: what every namespace has once."""
    journal = _stream(namespace.journal_stream, f"{namespace.name}-journal.>", settings)
    return [
        journal,
        _object_store(namespace.blob_bucket, settings),
        _bucket(namespace.registry_bucket, settings),
        _bucket(namespace.presence_bucket, settings)
        | {"storage": "memory", "max_age": _nanos(PRESENCE_TTL), "duplicate_window": _nanos(PRESENCE_TTL)},
    ]


def consumer(durable: Durable, settings: StreamSettings) -> Config:
    """The configuration of a durable consumer. The runtime counts attempts, so the server never gives up."""
    config: Config = {
        "name": durable.name,
        "durable_name": durable.name,
        "ack_policy": "explicit",
        "ack_wait": int(settings.ack_wait * _NANOS),
        "max_deliver": -1,
        "max_ack_pending": settings.max_ack_pending,
        "replay_policy": "instant",
        "filter_subjects": sorted(durable.filters),
        "deliver_policy": durable.start.policy,
    }
    if durable.start.time:
        config["opt_start_time"] = durable.start.time.isoformat().replace("+00:00", "Z")
    return config


def _stream(name: str, subject: str, settings: StreamSettings) -> Config:
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": settings.replicas,
        "max_consumers": _MAX_CONSUMERS,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0,
        "duplicate_window": int(settings.duplicate_window * _NANOS),
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
    }


def _bucket(name: str, settings: StreamSettings) -> Config:
    """A key-value bucket, created raw: the client's own call leaves `max_consumers` at the server's 1000."""
    return _stream(f"KV_{name}", f"$KV.{name}.>", settings) | {
        "discard": "new",
        "max_msgs_per_subject": 1,
        "deny_delete": True,
    }


def _object_store(name: str, settings: StreamSettings) -> Config:
    """An object store, created raw for the same reason as a bucket; what is in it outlives the journals."""
    return _stream(f"OBJ_{name}", f"$O.{name}.M.>", settings) | {
        "subjects": [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        "max_age": _nanos(BLOB_AGE),
    }


def _nanos(duration: timedelta) -> int:
    return int(duration.total_seconds()) * _NANOS
