"""Outputs at a later time: a schedule of the server in the commit, which fires into a subject of the agent itself.

The server strips message ids when a schedule fires, so the agent publishes what fired, under the id that it has.
"""

from datetime import UTC, datetime
from typing import Final

from mesh.contract.cloudevents import MSG_ID, message_id, read_headers
from mesh.contract.namespace import Namespace
from mesh.runtime.ports import Delivery, Write

_TARGET: Final = "mesh-target"
_SERVER_HEADERS: Final = "Nats-"


def schedule(namespace: Namespace, domain: str, agent: str, write: Write, at: datetime) -> Write:
    """The message that makes the server deliver an output at a time.

    Args:
        namespace: Where the agent lives.
        domain: The domain that the commit is made in.
        agent: Name of the agent.
        write: The output as it will be published.
        at: When; a time that has passed fires at once.
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
    return Write(namespace.timer(domain, event_id), write.data, headers)


def fired(namespace: Namespace, delivery: Delivery) -> tuple[str, Write] | None:
    """The stream and the message of an output whose time has come; None when the delivery is not one."""
    subject = delivery.headers.get(_TARGET, "")
    address = namespace.parse(subject)
    if address is None or address.kind not in ("evt", "cmd"):
        return None
    event_id = read_headers(delivery.headers, fallback_id="").id
    kept = {k: v for k, v in delivery.headers.items() if not k.startswith(_SERVER_HEADERS) and k != _TARGET}
    write = Write(subject, delivery.data, kept | {MSG_ID: message_id(address.name, event_id)})
    return namespace.stream(address.domain), write
