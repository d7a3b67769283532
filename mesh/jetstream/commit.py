"""Commits: one message as a deduplicated publish, several as an atomic batch that is shared by whoever is ready.

On file storage the server needs 1.5 to 2.4 ms for a batch of one message and 8 ms for one of 400, so transactions that
are ready at the same time travel together.
"""

import asyncio
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mesh.contract.cloudevents import MSG_ID
from mesh.contract.ids import new_id
from mesh.errors import Conflict, MeshError, Refused, Unreachable
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.runtime.ports import Committed, Write

_MAX_MESSAGES = 500
_MAX_BYTES = 4 << 20
_PATIENCE = 3
"""Request timeouts for which an unanswered commit is repeated; the election of a leader takes about one."""

_WRONG_LAST_SEQUENCE: Final = 10071
_WRONG_LAST_SEQUENCE_IN_BATCH: Final = 10164
_ID_IN_PROCESS: Final = 10158
_BATCH_INCOMPLETE: Final = 10176
_BATCH_HOLDS_DUPLICATE: Final = 10201
_TOO_MANY_BATCHES: Final = 10210

_CONFLICTS = frozenset({_WRONG_LAST_SEQUENCE, _WRONG_LAST_SEQUENCE_IN_BATCH})
_PASSING = frozenset({_ID_IN_PROCESS, _BATCH_INCOMPLETE, _TOO_MANY_BATCHES})


class _Passing(MeshError):
    """The server cannot take this just now."""


@dataclass(slots=True, eq=False)
class _Transaction:
    writes: Sequence[Write]
    done: asyncio.Future[Committed]

    @property
    def size(self) -> int:
        return sum(len(write.data) + 1024 for write in self.writes)

    @property
    def subjects(self) -> set[str]:
        return {w.subject for w in self.writes} | {w.expect_subject for w in self.writes if w.expect_subject}

    @property
    def conditions(self) -> set[str]:
        return {w.expect_subject or w.subject for w in self.writes if w.expect is not None}


class Committer:
    """Commits into one stream, for a whole process.

    Args:
        connection: Where to.
        stream: Name of the stream.
    """

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._api = Api(connection)
        self._stream = stream
        self._waiting: deque[_Transaction] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Makes all messages visible together, or none; see `mesh.runtime.ports.Log.commit`."""
        for write in writes:
            self._connection.check_size(write.subject, write.data, write.headers)
        if len(writes) == 1:
            return await self._publish(writes[0])
        transaction = _Transaction(writes, asyncio.get_running_loop().create_future())
        self._waiting.append(transaction)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await transaction.done

    async def _publish(self, write: Write) -> Committed:
        headers = _headers(write)
        tries = itertools.count(1)

        async def send() -> Committed:
            number = next(tries)
            try:
                ack = json.loads((await self._connection.request(write.subject, write.data, headers)).data)
                if error := _error(ack, write.subject):
                    raise error
            except Conflict:
                # An earlier try may have been stored: a server with one replica checks the condition before the id.
                if number > 1 and (stored := await self._stored(write)):
                    return stored
                raise
            return Committed(ack["seq"], bool(ack.get("duplicate")))

        return await self._until_answered(write.subject, send)

    async def _until_answered[T](self, what: str, send: Callable[[], Awaitable[T]]) -> T:
        """Sends again and again until the server takes or refuses it, or our patience is over."""
        deadline = time.monotonic() + _PATIENCE * self._connection.request_timeout
        for number in itertools.count():
            try:
                return await send()
            except (Unreachable, _Passing) as error:
                if time.monotonic() > deadline:
                    raise Unreachable(f"{what} was not acknowledged: {error}", object=what) from error
            await _pause(number)
        raise AssertionError

    async def _stored(self, write: Write) -> Committed | None:
        last = await self._api.message(self._stream, last_by_subj=write.subject)
        own = write.headers.get(MSG_ID)
        return Committed(last.sequence, duplicate=True) if last and own and last.headers.get(MSG_ID) == own else None

    async def _work(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                await self._settle(group)
            except Exception as error:  # noqa: BLE001 - whoever waits gets to know
                _fail(group, error)

    def _next_group(self) -> list[_Transaction]:
        """Takes the transactions that may share a batch: no two of them touch the same subject."""
        group: list[_Transaction] = []
        later: list[_Transaction] = []
        subjects: set[str] = set()
        messages = size = 0
        while self._waiting:
            transaction = self._waiting.popleft()
            if transaction.done.cancelled():
                continue
            messages += len(transaction.writes)
            size += transaction.size
            if group and (messages > _MAX_MESSAGES or size > _MAX_BYTES):
                later.append(transaction)
                break
            touched = transaction.subjects
            if subjects & touched:
                later.append(transaction)
            else:
                group.append(transaction)
            subjects |= touched
        self._waiting.extendleft(reversed(later))
        return group

    async def _settle(self, group: list[_Transaction]) -> None:
        """Commits a group; when it is refused, its halves, down to the one that is to blame."""
        try:
            writes = [write for transaction in group for write in transaction.writes]
            last = await self._until_answered(f"a commit into {self._stream}", partial(self._send, writes))
        except Refused as error:
            if len(group) > 1:
                await self._settle(group[: len(group) // 2])
                await self._settle(group[len(group) // 2 :])
            elif error.server_code == _BATCH_HOLDS_DUPLICATE:
                _resolve(group[0], Committed(0, duplicate=True))
            else:
                _fail(group, error)
            return
        except Unreachable as error:
            _fail(group, error)
            return
        self._refuse_stale({write.subject for transaction in group for write in transaction.writes})
        for transaction in reversed(group):
            _resolve(transaction, Committed(last))
            last -= len(transaction.writes)

    def _refuse_stale(self, written: set[str]) -> None:
        """Refuses what waits on a condition that was just overtaken; the server would refuse its whole batch."""
        stale = [t for t in self._waiting if t.conditions & written]
        for transaction in stale:
            self._waiting.remove(transaction)
        _fail(stale, Conflict("the subject of a condition was written meanwhile", code="conflict"))

    async def _send(self, writes: list[Write]) -> int:
        batch = new_id()
        first = last = None
        for number, write in enumerate(writes, 1):
            headers = _headers(write) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number == len(writes):
                headers["Nats-Batch-Commit"] = "1"
                last = await self._connection.send(write.subject, write.data, headers)
            elif number == 1:
                first = await self._connection.send(write.subject, write.data, headers)
            else:
                await self._connection.publish(write.subject, write.data, headers)
        answers = [answer for answer in (first, last) if answer]
        try:
            return await self._answer(writes, *(future for _, future in answers))
        finally:
            for token, _ in answers:
                self._connection.forget(token)

    async def _answer(self, writes: list[Write], *answers: asyncio.Future[Any]) -> int:
        """Reads the answers to the first and the last message; an error to the first one ends the batch."""
        ack: dict[str, Any] = {}
        try:
            async with asyncio.timeout(2 * self._connection.request_timeout):
                for answer, write in zip(answers, (writes[0], writes[-1]), strict=True):
                    message = await answer
                    if message.headers and message.headers.get("Status") == "503":
                        raise Unreachable(f"nothing listens on {write.subject}", code="no_responders")
                    ack = json.loads(message.data or b"{}")
                    if error := _error(ack, write.subject):
                        raise error
        except TimeoutError:
            raise Unreachable(f"{self._stream} does not answer") from None
        return int(ack["seq"])


def _headers(write: Write) -> dict[str, str]:
    headers = dict(write.headers)
    if write.expect is not None:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(write.expect)
    if write.expect_subject is not None:
        headers["Nats-Expected-Last-Subject-Sequence-Subject"] = write.expect_subject
    return headers


def _error(ack: dict[str, Any], subject: str) -> MeshError | None:
    error = ack.get("error")
    if not error:
        return None
    code, text = error.get("err_code", 0), f"JetStream refuses {subject}: {error.get('description')}"
    if code in _CONFLICTS:
        return Conflict(text, code="conflict", object=subject, server_code=code)
    if code in _PASSING or error.get("code") in (429, 503):
        return _Passing(text, code="busy", object=subject)
    return Refused(text, object=subject, server_code=code)


def _resolve(transaction: _Transaction, committed: Committed) -> None:
    if not transaction.done.done():
        transaction.done.set_result(committed)


def _fail(group: Iterable[_Transaction], error: BaseException) -> None:
    for transaction in group:
        if not transaction.done.done():
            transaction.done.set_exception(error)


async def _pause(number: int) -> None:
    await asyncio.sleep(min(0.05 * 2 ** min(number, 10), 1.0) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
