"""A key-value bucket, read and written through the leader of its stream."""

from mesh.errors import Conflict
from mesh.jetstream.api import Api
from mesh.jetstream.commit import Committer
from mesh.jetstream.connection import Connection
from mesh.runtime.ports import Write


class Bucket:
    """The bucket `name`, which must exist.

    Keys are dot-separated subject tokens. Every method raises `Unreachable` when NATS does not answer.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._api = Api(connection)
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._committer = Committer(connection, self._stream)

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        found = await self._api.message(self._stream, last_by_subj=self._prefix + key)
        return found.data if found and "KV-Operation" not in found.headers else None

    async def items(self, filter: str = ">") -> dict[str, bytes]:  # noqa: A002 - JetStream's word
        """All keys that match a subject filter, with their values."""
        subjects = await self._api.subjects(self._stream, self._prefix + filter)
        found = {}
        for subject in sorted(subjects):
            key = subject.removeprefix(self._prefix)
            value = await self.get(key)
            if value is not None:
                found[key] = value
        return found

    async def put(self, key: str, value: bytes) -> None:
        """Sets the value of a key."""
        await self._committer.commit([Write(self._prefix + key, value)])

    async def create(self, key: str, value: bytes) -> bool:
        """Sets the value of a key that has none; False when it has one."""
        try:
            await self._committer.commit([Write(self._prefix + key, value, expect=0)])
        except Conflict:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Removes a key with all that was known of it."""
        await self._api.call(f"STREAM.PURGE.{self._stream}", {"filter": self._prefix + key})
