"""Finds out from the log alone whether a handling was committed, however long ago and whatever it answered.

Every commit holds a message whose subject follows from the input: an output of the handler's one declared type under
the input's own key, or else a `done` record. The server forgets message ids after its duplicate window; this does not.
"""

from collections.abc import AsyncIterator

from mesh.contract.cloudevents import read_headers
from mesh.contract.event_type import EventType
from mesh.contract.namespace import Namespace, decode_token
from mesh.runtime.incoming import Incoming
from mesh.runtime.ports import Log, Stored, Write
from mesh.runtime.transaction import Forward, output_subject, proving_type

_TRANSPORT_HEADERS = ("Nats-Batch-", "Nats-Expected-")


class Proofs:
    """Searches the home stream for what one agent committed.

    Args:
        log: The streams.
        namespace: Where the agent lives.
        agent: Name of the agent.
    """

    def __init__(self, log: Log, namespace: Namespace, agent: str) -> None:
        self._log = log
        self._namespace = namespace
        self._source = f"/agents/{agent}"
        self._agent = agent

    async def is_committed(self, incoming: Incoming, start: int) -> bool:
        """Whether a handling of this input is in the log, at or after the sequence `start`.

        Raises:
            Unreachable: NATS does not answer.
        """
        handler = incoming.handler
        subjects = [self._namespace.done(handler.event.domain.name, self._agent, incoming.key)]
        if kind := proving_type(handler):
            subjects.append(output_subject(self._namespace, handler, kind, incoming.key))
        for subject in subjects:
            async for _ in self._effects(incoming, subject, start):
                return True
        return False

    async def forwards(self, incoming: Incoming, start: int) -> list[Forward]:
        """The outputs into other domains that a handling of this input committed.

        Raises:
            Unreachable: NATS does not answer.
        """
        found: list[Forward] = []
        home = incoming.handler.event.domain
        for kind in incoming.handler.emits:
            if kind.domain.name != home.name:
                subject = self._namespace.every_out(home.name, kind.domain.name, kind.name)
                found += [self._forward(kind, stored) async for stored in self._effects(incoming, subject, start)]
        return found

    async def is_published(self, stream: str, write: Write) -> bool:
        """Whether an event is in a stream.

        Raises:
            Unreachable: NATS does not answer.
        """
        event_id = read_headers(write.headers, fallback_id="").id
        async for stored in self._log.read(stream, write.subject):
            if read_headers(stored.headers, fallback_id="").id == event_id:
                return True
        return False

    def _forward(self, kind: EventType, stored: Stored) -> Forward:
        headers = {k: v for k, v in stored.headers.items() if not k.startswith(_TRANSPORT_HEADERS)}
        key = decode_token(stored.subject.rpartition(".")[2])
        write = Write(kind.subject(self._namespace, key), stored.data, headers)
        return Forward(self._namespace.stream(kind.domain.name), write)

    async def _effects(self, incoming: Incoming, subject: str, start: int) -> AsyncIterator[Stored]:
        stream = self._namespace.stream(incoming.handler.event.domain.name)
        async for stored in self._log.read(stream, subject, start):
            event = read_headers(stored.headers, fallback_id="")
            if event.causation_id == incoming.event.id and event.source == self._source:
                yield stored
