"""Claims in the stream of a domain: one message with a TTL per key."""

from datetime import UTC, datetime, timedelta

from mesh.agent.claims import AlreadyClaimed
from mesh.contract.cloudevents import MSG_ID
from mesh.contract.event_type import Domain
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.errors import Conflict
from mesh.runtime.ports import Log, Write
from mesh.v1 import log_pb2


class StreamClaims:
    """The claims of one handling; see `mesh.agent.claims.ClaimStore`.

    Args:
        log: The streams.
        namespace: Where the agent lives.
        domain: The domain of the handled event.
        agent: Name of the agent.
        event_id: Id of the handled event.
    """

    def __init__(self, log: Log, namespace: Namespace, domain: Domain, agent: str, event_id: str) -> None:
        self._log = log
        self._namespace = namespace
        self._domain = domain.name
        self._agent = agent
        self._event_id = event_id

    async def acquire(self, key: str, ttl: int) -> int:
        """Takes a claim; one that an earlier delivery of the same event took is taken over."""
        while True:
            stream, subject = self._namespace.stream(self._domain), self._namespace.claim(self._domain, key)
            last = await self._log.last(stream, subject)
            if last and not last.is_deletion:
                holder = log_pb2.Claim.FromString(last.data)
                if (holder.agent, holder.event_id) != (self._agent, self._event_id):
                    raise AlreadyClaimed(key, holder.agent, holder.until.ToDatetime(UTC))
            try:
                return await self._write(key, last.sequence if last else 0, ttl)
            except Conflict:
                continue  # somebody was quicker; look who

    async def renew(self, key: str, sequence: int, ttl: int) -> int:
        """Extends a claim."""
        return await self._write(key, sequence, ttl)

    async def _write(self, key: str, expect: int, ttl: int) -> int:
        claim = log_pb2.Claim(agent=self._agent, event_id=self._event_id)
        claim.until.FromDatetime(datetime.now(UTC) + timedelta(seconds=ttl))
        headers = {MSG_ID: f"claim:{new_id()}", "Nats-TTL": f"{ttl}s", "Nats-Rollup": "sub"}
        write = Write(self._namespace.claim(self._domain, key), claim.SerializeToString(), headers, expect=expect)
        return (await self._log.commit(self._namespace.stream(self._domain), [write])).sequence
