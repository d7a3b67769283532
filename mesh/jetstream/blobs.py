"""Large results of steps: stored once, under the hash of their content."""

import hashlib

import nats.errors
import nats.js.errors

from mesh.errors import NotFound, Unreachable
from mesh.jetstream.connection import Connection


class Blobs:
    """The object store `bucket`, which must exist."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._js = connection.client.jetstream()
        self._bucket = bucket

    async def put(self, data: bytes) -> str:
        """Stores bytes and returns their hash; what is there already is not stored again.

        Raises:
            Unreachable: NATS does not answer.
        """
        name = hashlib.sha256(data).hexdigest()
        try:
            store = await self._js.object_store(self._bucket)
            try:
                await store.get_info(name)
            except nats.js.errors.ObjectNotFoundError:
                await store.put(name, data)
        except (nats.errors.Error, TimeoutError) as error:
            raise Unreachable(f"a blob of {len(data)} bytes could not be stored: {error}", object=name) from error
        return name

    async def get(self, name: str) -> bytes:
        """Bytes by their hash.

        Raises:
            NotFound: They are gone.
            Unreachable: NATS does not answer.
        """
        try:
            found = await (await self._js.object_store(self._bucket)).get(name)
        except nats.js.errors.NotFoundError as error:
            raise NotFound(f"blob {name} is gone", object=name) from error
        except (nats.errors.Error, TimeoutError) as error:
            raise Unreachable(f"blob {name} could not be read: {error}", object=name) from error
        return found.data or b""
