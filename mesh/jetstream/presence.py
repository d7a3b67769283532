"""Which processes run which agents: one put per process every ten seconds, forgotten after thirty."""

from mesh.contract.namespace import Namespace
from mesh.jetstream.bucket import Bucket
from mesh.jetstream.connection import Connection
from mesh.v1.registry_pb2 import Presence


class PresenceBoard:
    """Reads and writes the presence bucket of a namespace, which must exist."""

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._bucket = Bucket(connection, namespace.presence_bucket)

    async def announce(self, presence: Presence) -> None:
        """Says that a process is alive."""
        await self._bucket.put(f"{presence.agent}.{presence.instance}", presence.SerializeToString())

    async def withdraw(self, presence: Presence) -> None:
        """Says that a process has stopped."""
        await self._bucket.delete(f"{presence.agent}.{presence.instance}")

    async def alive(self) -> list[Presence]:
        """All processes that spoke within the last thirty seconds."""
        return [Presence.FromString(value) for value in (await self._bucket.items()).values()]
