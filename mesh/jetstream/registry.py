"""The registry: contracts, declarations of agents and owners of commands, readable by everybody."""

from collections.abc import Iterable
from typing import Any

from mesh.agent.agent import Agent
from mesh.contract.catalog import Catalog, covers, pack, unpack
from mesh.contract.event_type import EventType, Kind
from mesh.contract.namespace import Namespace
from mesh.errors import Refused
from mesh.jetstream.bucket import Bucket
from mesh.jetstream.connection import Connection
from mesh.jetstream.topology import durables
from mesh.v1.registry_pb2 import AgentDeclaration, HandlerDeclaration, RegisteredPackage


class Registry:
    """Reads and writes the registry of a namespace, whose bucket must exist."""

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._namespace = namespace
        self._bucket = Bucket(connection, namespace.registry_bucket)

    async def register(self, agent: Agent[Any]) -> None:
        """Publishes what an agent declares.

        Raises:
            Refused: Another agent handles one of its commands.
        """
        for handler in agent.handlers:
            if handler.event.kind is Kind.COMMAND:
                await self._own(handler.event, agent.name)
        await self.register_contracts(t for h in agent.handlers for t in (h.event, *h.emits))
        declaration = declare(self._namespace, agent).SerializeToString(deterministic=True)
        if await self._bucket.get(f"agent.{agent.name}") != declaration:
            await self._bucket.put(f"agent.{agent.name}", declaration)

    async def register_contracts(self, types: Iterable[EventType]) -> None:
        """Publishes the packages of types, unless what is there knows all that they know."""
        for package, found in {t.descriptor.file.package: t for t in types}.items():
            files = pack(found)
            key = f"contract.{package}"
            value = await self._bucket.get(key)
            if value is None or not covers(RegisteredPackage.FromString(value).files, files):
                await self._bucket.put(key, RegisteredPackage(package=package, files=files).SerializeToString())

    async def catalog(self) -> Catalog:
        """All registered contracts."""
        catalog = Catalog()
        for value in (await self._bucket.items("contract.>")).values():
            registered = RegisteredPackage.FromString(value)
            catalog.add(unpack(registered.files, registered.package))
        return catalog

    async def agents(self) -> list[AgentDeclaration]:
        """The declarations of all agents, by name."""
        return [AgentDeclaration.FromString(v) for v in (await self._bucket.items("agent.*")).values()]

    async def remove(self, agent: str) -> None:
        """Forgets an agent and the commands it owns."""
        for key, owner in (await self._bucket.items("command.>")).items():
            if owner.decode() == agent:
                await self._bucket.delete(key)
        await self._bucket.delete(f"agent.{agent}")

    async def _own(self, command: EventType, agent: str) -> None:
        key = f"command.{command.label}"
        if await self._bucket.create(key, agent.encode()):
            return
        owner = (await self._bucket.get(key) or b"").decode()
        if owner != agent:
            raise Refused(
                f"command {command.full_name} is handled by agent {owner}; a command has exactly one handler",
                code="command_taken",
                object=command.full_name,
                cure=f"retire {owner} first (mesh agents rm {owner}), or make it an event",
            )


def declare(namespace: Namespace, agent: Agent[Any]) -> AgentDeclaration:
    """What an agent handles and emits."""
    declaration = AgentDeclaration(name=agent.name, description=agent.description, version=agent.version)
    for durable in durables(namespace, agent):
        for handler in durable.handlers:
            declaration.handlers.append(
                HandlerDeclaration(
                    consumes=handler.event.full_name,
                    emits=[output.full_name for output in handler.emits],
                    stream=durable.stream,
                    durable=durable.name,
                    concurrency=handler.concurrency,
                    timeout_seconds=handler.timeout,
                    max_attempts=handler.max_attempts,
                )
            )
    return declaration
