"""The JetStream API as raw JSON.

nats-py creates and updates in one request and drops fields it does not know, so streams and consumers go this way.
"""

import base64
import json
from datetime import datetime
from typing import Any, Final

from mesh.errors import Refused, Unreachable
from mesh.jetstream.connection import CONNECTION_LOST, Connection
from mesh.runtime.ports import Stored

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
MESSAGE_NOT_FOUND: Final = 10037


class Api:
    """Requests to `$JS.API`.

    Every method raises `Unreachable` when JetStream does not answer and `Refused`, with the server's code, when it
    refuses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def call(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request to `$JS.API.<subject>`."""
        data = json.dumps(body).encode() if body is not None else b""
        try:
            answer = json.loads((await self._connection.request(f"$JS.API.{subject}", data)).data)
        except Unreachable as error:
            if error.code != CONNECTION_LOST:
                raise
            answer = json.loads((await self._connection.request(f"$JS.API.{subject}", data)).data)
        if refusal := answer.get("error"):
            raise Refused(
                f"JetStream refuses {subject}: {refusal.get('description')}",
                object=subject,
                server_code=refusal.get("err_code", refusal.get("code", 0)),
            )
        return dict(answer)

    async def find(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Like `call`, with None for a stream, consumer or message that does not exist."""
        try:
            return await self.call(subject, body)
        except Refused as error:
            if error.server_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND):
                return None
            raise

    async def message(self, stream: str, **query: object) -> Stored | None:
        """One message from the leader: `seq=`, `last_by_subj=`, or `seq=` with `next_by_subj=`."""
        found = await self.find(f"STREAM.MSG.GET.{stream}", query)
        return _stored(found["message"]) if found else None

    async def subjects(self, stream: str, subject: str) -> dict[str, int]:
        """Subjects of a stream that match a filter, with the number of their messages."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": subject, "offset": len(found)}
            info = await self.find(f"STREAM.INFO.{stream}", body)
            page = (info or {}).get("state", {}).get("subjects") or {}
            found |= page
            if not page or len(found) >= (info or {}).get("total", 0):
                return found


def _stored(message: dict[str, Any]) -> Stored:
    return Stored(
        subject=message["subject"],
        data=base64.b64decode(message.get("data", "")),
        headers=_headers(base64.b64decode(message.get("hdrs", "")).decode("utf-8", "replace")),
        sequence=message["seq"],
        time=parse_time(message["time"]),
    )


def parse_time(text: str) -> datetime:
    """A timestamp of the server; nanoseconds are cut to microseconds."""
    return datetime.fromisoformat(text)


def _headers(text: str) -> dict[str, str]:
    lines = text.split("\r\n")[1:]
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
