"""Outputs at a later time: a schedule of the server in the commit, which fires into a subject of the agent itself.

The server strips message ids when a schedule fires, so the agent publishes what fired, under the id that it has. An
output that waits for an answer is published only if none came: the sequences of the stream decide, so that every look
at the log decides the same.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mesh.contract.cloudevents import MSG_ID, message_id, read_count, read_headers
from mesh.contract.namespace import Namespace
from mesh.runtime.ports import Delivery, Log, Write

_TARGET: Final = "mesh-target"
_AWAITED: Final = "mesh-awaited"
_SINCE: Final = "mesh-since"
_SERVER_HEADERS: Final = "Nats-"


@dataclass(frozen=True, slots=True)
class Due:
    """An output whose time has come.

    Attributes:
        stream: Where it goes.
        write: Its message.
        awaited: Subject of the answer that makes it void; empty when there is none.
        since: Sequence after which an answer counts.
    """

    stream: str
    write: Write
    awaited: str
    since: int


def schedule(
    namespace: Namespace, domain: str, agent: str, write: Write, at: datetime, *, awaited: str = "", since: int = 0
) -> Write:
    """The message that makes the server deliver an output at a time.

    Args:
        namespace: Where the agent lives.
        domain: The domain that the commit is made in.
        agent: Name of the agent.
        write: The output as it will be published.
        at: When; a time that has passed fires at once.
        awaited: Subject in the same domain of the answer that makes the output void.
        since: Sequence after which an answer counts.
    """
    event_id = read_headers(write.headers, fallback_id="").id
    headers = dict(write.headers) | {
        MSG_ID: message_id("timer", event_id),
        "Nats-Schedule": f"@at {at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": namespace.due(domain, agent, event_id),
        # A schedule that is older than the max_age of the stream would be gone before it fires.
        "Nats-TTL": "never",
        _TARGET: write.subject,
    }
    if awaited:
        headers |= {_AWAITED: awaited, _SINCE: str(since)}
    return Write(namespace.timer(domain, event_id), write.data, headers)


def fired(namespace: Namespace, delivery: Delivery) -> Due | None:
    """The output whose time has come; None when the delivery is not one."""
    subject = delivery.headers.get(_TARGET, "")
    address = namespace.parse(subject)
    if address is None or address.kind not in ("evt", "cmd"):
        return None
    event_id = read_headers(delivery.headers, fallback_id="").id
    own = (_TARGET, _AWAITED, _SINCE)
    kept = {k: v for k, v in delivery.headers.items() if not k.startswith(_SERVER_HEADERS) and k not in own}
    write = Write(subject, delivery.data, kept | {MSG_ID: message_id(address.name, event_id)})
    awaited, since = delivery.headers.get(_AWAITED, ""), read_count(delivery.headers.get(_SINCE, ""))
    return Due(namespace.stream(address.domain), write, awaited, since)


async def is_answered(log: Log, due: Due, delivery: Delivery) -> bool:
    """Whether the answer that an output waited for came before its time did.

    Raises:
        Unreachable: NATS does not answer.
    """
    if due.awaited:
        async for answer in log.read(delivery.stream, due.awaited, due.since + 1):
            return answer.sequence < delivery.sequence
    return False
