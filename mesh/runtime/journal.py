"""The journal of a handling: what happened in earlier deliveries of the same event, and in this one."""

import asyncio

from mesh.contract.cloudevents import MSG_ID
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.errors import Conflict
from mesh.runtime.ports import Log, Write
from mesh.v1.log_pb2 import JournalEntry, StepId

_TTL = f"{7 * 24}h"
_INLINE = 64 << 10
"""Largest result, in bytes, that lies in the journal itself; a larger one lies in the blob store."""


class Journal:
    """Entries of one (agent, event), each written once.

    What succeeds at its first delivery without steps has none, and never asks for them.

    Args:
        log: Where the journal lies.
        namespace: Namespace of the agent.
        agent: Name of the agent.
        event_id: Id of the event; a redrive has a journal of its own.
        is_new: This is the first delivery, so that there can be no entries yet.
    """

    def __init__(self, log: Log, namespace: Namespace, agent: str, event_id: str, *, is_new: bool) -> None:
        self._log = log
        self._stream = namespace.journal_stream
        self._subject = namespace.journal(agent, event_id)
        self._sequence: int | None = 0 if is_new else None
        self._writing = asyncio.Lock()
        self._writer = new_id()
        self.entries: list[JournalEntry] = []

    async def load(self) -> None:
        """Reads what was written so far."""
        stored = [message async for message in self._log.read(self._stream, self._subject)]
        self.entries = [JournalEntry.FromString(message.data) for message in stored]
        self._sequence = stored[-1].sequence if stored else 0

    async def append(self, entry: JournalEntry) -> None:
        """Adds an entry.

        Raises:
            Conflict: Another process handles the same event and wrote an entry meanwhile.
        """
        async with self._writing:
            if self._sequence is None:
                await self.load()
            # An effect that was begun and not settled is a question to a human, who may take his time.
            lifetime = "never" if entry.HasField("intent") else _TTL
            # The same id when an entry is tried again, so that one that was stored is recognised.
            headers = {MSG_ID: f"journal:{self._writer}/{self._sequence}", "Nats-TTL": lifetime}
            write = Write(self._subject, entry.SerializeToString(), headers, expect=self._sequence)
            try:
                self._sequence = (await self._log.commit(self._stream, [write])).sequence
            except Conflict:
                self._sequence = None
                raise
            self.entries.append(entry)

    async def purge(self) -> None:
        """Forgets all entries: the event is settled."""
        if self.entries:
            await self._log.purge(self._stream, self._subject)

    @property
    def attempts(self) -> int:
        """Failed attempts."""
        return sum(e.HasField("failure") and not e.failure.uncounted for e in self.entries)

    def died_alone(self) -> int:
        """How often the event was alone in its process when that ended without a word."""
        accounted = self._accounted()
        return sum(e.HasField("alone") and e.delivery not in accounted for e in self.entries)

    def is_suspect(self, delivered: int) -> bool:
        """Whether the delivery before number `delivered` may have ended its process."""
        return delivered > 1 and delivered - 1 not in self._accounted()

    def _accounted(self) -> set[int]:
        return {e.delivery for e in self.entries if e.HasField("failure") or e.HasField("hand_back")}

    async def recall(self, step: StepId) -> tuple[str, bytes] | None:
        """The result of a call, or None when it has none; see `mesh.agent.steps.StepJournal`."""
        for entry in self.entries:
            if entry.HasField("step") and entry.step.id == step:
                data = await self._log.get_blob(entry.step.blob) if entry.step.blob else entry.step.result
                return entry.step.type, data
        return None

    async def record(self, step: StepId, type_name: str, data: bytes) -> tuple[str, bytes]:
        """Writes the result of a call down, and returns the one that counts: the first."""
        result = JournalEntry.Step(id=step, type=type_name)
        if len(data) > _INLINE:
            result.blob = await self._log.put_blob(data)
        else:
            result.result = data
        await self._note(JournalEntry(step=result))
        known = await self.recall(step)
        return known or (type_name, data)

    async def intends(self, step: StepId) -> bool:
        """Whether the last word on a call is that it is about to be made."""
        words = [e for e in self.entries if step in (e.intent.id, e.not_done.id)]
        return bool(words) and words[-1].HasField("intent")

    async def begin(self, step: StepId) -> bool:
        """Writes down that a call is about to be made; False when another process wrote something meanwhile."""
        try:
            await self.append(JournalEntry(intent=JournalEntry.Intent(id=step)))
        except Conflict:
            await self.load()
            return False
        return True

    async def call_off(self, step: StepId) -> None:
        """Writes down that a call did not happen."""
        await self._note(JournalEntry(not_done=JournalEntry.NotDone(id=step)))

    async def _note(self, entry: JournalEntry) -> None:
        """Adds an entry, also when another process that handles the same event added one meanwhile."""
        while True:
            try:
                await self.append(entry)
            except Conflict:
                await self.load()
            else:
                return
