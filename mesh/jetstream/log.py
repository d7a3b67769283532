"""The streams of the mesh, as the runtime sees them."""

from collections.abc import AsyncIterator, Sequence

from mesh.contract.namespace import Namespace
from mesh.jetstream.api import Api
from mesh.jetstream.blobs import Blobs
from mesh.jetstream.commit import Committer
from mesh.jetstream.connection import Connection
from mesh.runtime.ports import Committed, Stored, Write


class JetStreamLog:
    """See `mesh.runtime.ports.Log`."""

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._connection = connection
        self._blobs = Blobs(connection, namespace.blob_bucket)
        self._api = Api(connection)
        self._committers: dict[str, Committer] = {}

    @property
    def max_payload(self) -> int:
        """Largest message the server takes: headers and payload, in bytes."""
        return self._connection.max_payload

    async def commit(self, stream: str, writes: Sequence[Write]) -> Committed:
        """Makes all messages visible together, or none."""
        committer = self._committers.get(stream)
        if committer is None:
            committer = self._committers[stream] = Committer(self._connection, stream)
        return await committer.commit(writes)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of a subject."""
        return await self._api.message(stream, last_by_subj=subject)

    async def read(self, stream: str, subject: str, start: int = 1) -> AsyncIterator[Stored]:
        """The messages of a subject from a sequence on, oldest first."""
        while message := await self._api.message(stream, seq=start, next_by_subj=subject):
            yield message
            start = message.sequence + 1

    async def put_blob(self, data: bytes) -> str:
        """Stores bytes once, under the hash of their content, which is returned."""
        return await self._blobs.put(data)

    async def get_blob(self, name: str) -> bytes:
        """Bytes that were stored under their hash."""
        return await self._blobs.get(name)

    async def purge(self, stream: str, subject: str) -> None:
        """Removes all messages of a subject."""
        await self._api.call(f"STREAM.PURGE.{stream}", {"filter": subject})
