"""The agents of a namespace: what they declare, who runs them, what waits for them."""

from dataclasses import dataclass
from typing import Any

from mesh.contract.namespace import Namespace
from mesh.errors import NotFound, Refused
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.presence import PresenceBoard
from mesh.jetstream.registry import Registry
from mesh.query.domains import domain_streams
from mesh.v1.registry_pb2 import AgentDeclaration, Presence


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in one durable consumer.

    Attributes:
        stream: Its stream.
        durable: Its name.
        pending: Events not delivered yet.
        unsettled: Events delivered and not settled: they run, or wait for another attempt.
        settled: Deliveries settled since the consumer was made; the difference of two looks is a rate.
    """

    stream: str
    durable: str
    pending: int
    unsettled: int
    settled: int


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """An agent at this moment.

    Attributes:
        declaration: What it declares.
        processes: Its processes that spoke within the last thirty seconds, oldest first.
        backlogs: Its durable consumers.
    """

    declaration: AgentDeclaration
    processes: tuple[Presence, ...]
    backlogs: tuple[Backlog, ...]

    @property
    def state(self) -> str:
        """`running`, or `stopped`."""
        return "running" if self.processes else "stopped"

    @property
    def lag(self) -> int:
        """Events that are not settled yet."""
        return sum(backlog.pending + backlog.unsettled for backlog in self.backlogs)

    @property
    def settled(self) -> int:
        """Deliveries settled since the durable consumers were made."""
        return sum(backlog.settled for backlog in self.backlogs)

    def check_stopped(self) -> None:
        """Makes sure that nobody runs the agent.

        Raises:
            Refused: A process does.
        """
        if self.processes:
            name, where = self.declaration.name, ", ".join(f"{p.host}:{p.pid}" for p in self.processes)
            raise Refused(
                f"agent {name} is running: {where}", code="agent_running", object=name, cure="stop it first, or --force"
            )


class Agents:
    """Reads and retires the agents of a namespace.

    Every method raises `Unreachable` when NATS does not answer.
    """

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._connection = connection
        self._namespace = namespace
        self._api = Api(connection)
        self._registry = Registry(connection, namespace)
        self._board = PresenceBoard(connection, namespace)

    async def all(self) -> list[AgentStatus]:
        """All declared agents, by name."""
        declared, alive = await self._registry.agents(), await self._board.alive()
        backlogs = await self._backlogs()
        return [
            AgentStatus(
                declaration,
                tuple(sorted((p for p in alive if p.agent == declaration.name), key=_started)),
                tuple(b for b in backlogs if _owner(b.durable) == declaration.name),
            )
            for declaration in declared
        ]

    async def get(self, name: str) -> AgentStatus:
        """One agent.

        Raises:
            NotFound: No agent of this name is declared.
        """
        for status in await self.all():
            if status.declaration.name == name:
                return status
        raise NotFound(f"there is no agent {name}", object=name, cure="see mesh agents")

    async def retire(self, status: AgentStatus) -> None:
        """Forgets an agent: its durable consumers with what is pending in them, its declaration, its commands.

        What it emitted, its state and its dead letters stay. A process that still runs it makes all of it anew.
        Interrupted, it can be repeated.
        """
        for backlog in status.backlogs:
            await self._api.find(f"CONSUMER.DELETE.{backlog.stream}.{backlog.durable}")
        await self._registry.remove(status.declaration.name)

    async def _backlogs(self) -> list[Backlog]:
        found = []
        for stream in (await domain_streams(self._connection, self._namespace)).values():
            offset, total = 0, 1
            while offset < total:
                page = await self._api.call(f"CONSUMER.LIST.{stream}", {"offset": offset})
                found += [_backlog(info) for info in page["consumers"] or () if info["config"].get("durable_name")]
                offset, total = offset + page["limit"], page["total"]
        return found


def _backlog(info: dict[str, Any]) -> Backlog:
    unsettled = info["num_ack_pending"]
    delivered = info["delivered"]["consumer_seq"]
    return Backlog(info["stream_name"], info["name"], info["num_pending"], unsettled, delivered - unsettled)


def _owner(durable: str) -> str:
    """The agent of a durable consumer: `<agent>`, or `<agent>--<event>`."""
    return durable.partition("--")[0]


def _started(presence: Presence) -> int:
    return presence.started.ToNanoseconds()
