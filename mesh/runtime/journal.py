"""The journal of a handling: what happened in earlier deliveries of the same event."""

from mesh.contract.cloudevents import MSG_ID
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.runtime.ports import Log, Write
from mesh.v1.log_pb2 import JournalEntry

_TTL = f"{7 * 24}h"


class Journal:
    """Entries of one (agent, event), each written once. Empty, and never read, for what succeeds at first delivery.

    Args:
        log: Where the journal lies.
        namespace: Namespace of the agent.
        agent: Name of the agent.
        event_id: Id of the event; a redrive has a journal of its own.
    """

    def __init__(self, log: Log, namespace: Namespace, agent: str, event_id: str) -> None:
        self._log = log
        self._stream = namespace.journal_stream
        self._subject = namespace.journal(agent, event_id)
        self._sequence: int | None = None
        self.entries: list[JournalEntry] = []

    async def load(self) -> None:
        """Reads what earlier deliveries wrote."""
        stored = [message async for message in self._log.read(self._stream, self._subject)]
        self.entries = [JournalEntry.FromString(message.data) for message in stored]
        self._sequence = stored[-1].sequence if stored else 0

    async def append(self, entry: JournalEntry) -> None:
        """Adds an entry.

        Raises:
            Conflict: Another process handles the same event and wrote an entry meanwhile.
        """
        if self._sequence is None:
            await self.load()
        headers = {MSG_ID: f"journal:{new_id()}", "Nats-TTL": _TTL}
        write = Write(self._subject, entry.SerializeToString(), headers, expect=self._sequence)
        self._sequence = (await self._log.commit(self._stream, [write])).sequence
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
        return {e.delivery for e in self.entries if not e.HasField("alone")}
