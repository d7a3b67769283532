"""From what a handler did to the one commit that makes it visible."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from mesh.agent.claims import Claim
from mesh.agent.context import Context
from mesh.agent.decisions import Thread
from mesh.agent.handler import Handler
from mesh.agent.state import Entry
from mesh.contract import visits
from mesh.contract.cloudevents import DELETED, MSG_ID, CloudEvent, message_id
from mesh.contract.event_type import EventType
from mesh.contract.ids import output_id
from mesh.contract.namespace import Namespace
from mesh.runtime.incoming import Incoming
from mesh.runtime.ports import Tracing, Write
from mesh.runtime.timer import schedule

_FOR_EVER: Mapping[str, str] = {"Nats-TTL": "never"}
_TOMBSTONE: Mapping[str, str] = {"Nats-TTL": "1s", **DELETED}


@dataclass(frozen=True, slots=True)
class Forward:
    """An output into another domain: committed at home, then published there."""

    stream: str
    write: Write


@dataclass(frozen=True, slots=True)
class Transaction:
    """One commit.

    Attributes:
        writes: Messages of the home stream, those with an id first; empty when there is nothing to commit.
        forwards: What is published into other domains after the commit.
    """

    writes: list[Write]
    forwards: list[Forward]


def build(
    namespace: Namespace, incoming: Incoming, ctx: Context[object], tracing: Tracing, spans: ExitStack
) -> Transaction:
    """Makes the commit of one handling. The same handling always makes messages with the same ids.

    Args:
        namespace: Where the agent lives.
        incoming: The handled event.
        ctx: The handler's context, after its run.
        tracing: Makes the span of each output.
        spans: Ends the spans of the outputs, after the commit.
    """
    home = incoming.handler.event.domain.name
    writes: list[Write] = []
    forwards: list[Forward] = []
    proven = False
    for ordinal, (kind, message, at, awaited) in enumerate(ctx.outputs):
        event = _output(incoming, ctx.agent, kind, message, ordinal)
        headers = event.headers() | dict(spans.enter_context(tracing.publish(kind, event)))
        headers[MSG_ID] = message_id(kind.name, event.id)
        key = kind.key(message)
        write = Write(kind.subject(namespace, key), message.SerializeToString(), headers)
        if at is not None:
            answer = awaited[0].subject(namespace, awaited[1]) if awaited else ""
            writes.append(schedule(namespace, home, ctx.agent, write, at, awaited=answer, since=incoming.sequence))
            continue
        if kind.domain.name != home:
            forwards.append(Forward(namespace.stream(kind.domain.name), write))
            write = Write(output_subject(namespace, incoming.handler, kind, key), write.data, headers)
        proven = proven or (kind is proving_type(incoming.handler) and key == incoming.key)
        writes.append(write)
    changes = [_state(namespace, incoming, ctx.agent, entry) for entry in ctx.state.entries if entry.written]
    changes += [_decision(namespace, incoming, thread) for thread in ctx.decided.threads if thread.taken]
    changes += [_release(namespace, home, claim) for claim in ctx.claims.held]
    if not writes and not changes:
        return Transaction([], [])
    guards = [(e.type.subject(namespace, e.key), e.sequence) for e in ctx.state.entries if not e.written]
    guards += [
        (namespace.decision(home, thread.question, thread.entity), thread.sequence)
        for thread in ctx.decided.threads
        if not thread.taken
    ]
    records = max(not proven, len(guards) - len(writes))
    writes.extend(_done(namespace, incoming, ctx, number) for number in range(records))
    for position, (subject, sequence) in enumerate(guards):
        writes[position] = replace(writes[position], expect=sequence, expect_subject=subject)
    # Those with an id come first, or a committed retry would look like a conflict.
    changes.sort(key=lambda write: MSG_ID not in write.headers)
    return Transaction(writes + changes, forwards)


def proving_type(handler: Handler) -> EventType | None:
    """The output type that proves a commit by itself, when it is emitted under the input's key.

    A handler that declares several types has none: an answer of another type would carry another message id.
    """
    return handler.emits[0] if len(handler.emits) == 1 else None


def output_subject(namespace: Namespace, handler: Handler, kind: EventType, key: str) -> str:
    """Where an output is committed: its own subject, or `out` for one into another domain."""
    home = handler.event.domain.name
    if kind.domain.name == home:
        return kind.subject(namespace, key)
    return namespace.out(home, kind.domain.name, kind.name, key)


def _output(incoming: Incoming, agent: str, kind: EventType, message: Message, ordinal: int) -> CloudEvent:
    cause = incoming.event
    visited = visits.place(agent, incoming.handler.event.name, incoming.key)
    return cause.effect(
        id=output_id(cause.source, cause.id, agent, ordinal),
        source=f"/agents/{agent}",
        type=kind.full_name,
        subject=f"{kind.entity_type}/{kind.key(message)}",
        visits=visits.add(cause.visits, visited),
    )


def _done(namespace: Namespace, incoming: Incoming, ctx: Context[object], number: int) -> Write:
    """The record that proves a commit, or carries a guard, where no event does."""
    cause = incoming.event
    event = cause.effect(
        id=output_id(cause.source, cause.id, f"{ctx.agent}/done", number),
        source=f"/agents/{ctx.agent}",
        type="mesh.done",
        subject=ctx.entity,
    )
    headers = event.headers() | {MSG_ID: message_id("done", event.id)}
    return Write(namespace.done(incoming.handler.event.domain.name, ctx.agent, incoming.key), b"", headers)


def _state(namespace: Namespace, incoming: Incoming, agent: str, entry: Entry) -> Write:
    cause, kind = incoming.event, entry.type
    event = cause.effect(
        id=output_id(cause.source, cause.id, f"{agent}/state/{kind.label}/{entry.key}", 0),
        source=f"/agents/{agent}",
        type=kind.full_name,
        subject=f"{kind.entity_type}/{entry.key}",
    )
    lifetime = _TOMBSTONE if entry.data is None else _FOR_EVER
    headers = event.headers() | {"Nats-Rollup": "sub", **lifetime}
    return Write(kind.subject(namespace, entry.key), entry.data or b"", headers, expect=entry.sequence)


def _release(namespace: Namespace, domain: str, claim: Claim) -> Write:
    """Ends a claim with the commit, which fails when the claim was lost."""
    headers = {"Nats-Rollup": "sub", **_TOMBSTONE}
    return Write(namespace.claim(domain, claim.key), b"", headers, expect=claim.sequence)


def _decision(namespace: Namespace, incoming: Incoming, thread: Thread) -> Write:
    cause, decision = incoming.event, thread.taken
    assert decision is not None  # noqa: S101 - the caller has looked
    event = cause.effect(
        id=decision.id,
        source=f"/agents/{decision.agent}",
        type=decision.DESCRIPTOR.full_name,
        subject=decision.entity,
    )
    headers = event.headers() | {MSG_ID: message_id("dec", decision.id), **_FOR_EVER}
    subject = namespace.decision(incoming.handler.event.domain.name, thread.question, thread.entity)
    return Write(subject, decision.SerializeToString(), headers, expect=thread.sequence)
