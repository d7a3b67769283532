"""The example teams on a NATS server of their own, and what they left in the log."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from google.protobuf.message import Message

from mesh.agent.agent import Agent
from mesh.cli.flows import print_flow, print_totals, type_name
from mesh.cli.loading import load_agents, run_async
from mesh.client import Mesh
from mesh.errors import UsageError
from mesh.jetstream.api import Api
from mesh.jetstream.registry import Registry
from mesh.jetstream.server import LocalServer
from mesh.jetstream.topology import durables
from mesh.query.flow import Flow, read_flows
from mesh.settings import NatsSettings, RetrySettings, Settings, StreamSettings
from mesh.worker import Worker

_ROOTS = 20
_DEADLINE = 60.0
_POLL = 0.05

_NEXT = """
try next (after `. .venv/bin/activate`)
  README.md          the smallest agent, from its contract to its first event
  agents/README.md   the seven agents that just ran; each is one short module
  mesh server        a server that stays, for `mesh run`, `mesh emit` and `mesh tail`"""


@dataclass(frozen=True, slots=True)
class Team:
    """An example team.

    Attributes:
        name: Its Python package, which is also its domain.
        agents: Its modules with an agent.
        sample: The function of its module `sample` that makes up root events.
        promise: What becomes of each root event: exactly one event of each group, and nothing else.
    """

    name: str
    agents: tuple[str, ...]
    sample: str
    promise: tuple[tuple[str, ...], ...]

    def load(self) -> list[Agent[Any]]:
        """Imports the agents.

        Raises:
            UsageError: They are not here.
        """
        try:
            return load_agents([f"{self.name}.{module}:agent" for module in self.agents])
        except UsageError as error:
            if error.code != "module_not_found":
                raise
            raise UsageError(
                f"there is no example team {self.name} here: mesh is installed without its repository",
                code="no_example_team",
                object=f"agents/{self.name}",
                cure="clone the repository and call `make demo` in it",
            ) from error

    def roots(self) -> list[Message]:
        """Root events, the same ones every time."""
        made: list[Message] = getattr(import_module(f"{self.name}.sample"), self.sample)(_ROOTS)
        return made

    def is_promised(self, flow: Flow) -> bool:
        """Whether a flow holds exactly what the team promises."""
        found = Counter(type_name(step.record) for step in flow.walk() if step.cause and step.kind != "done")
        one_of_each = all(sum(found[name] for name in group) == 1 for group in self.promise)
        return len(flow.roots) == 1 and one_of_each and found.total() == len(self.promise)


TEAMS = (
    Team(
        name="revops",
        agents=("lead_scorer", "pricing", "outreach"),
        sample="leads",
        promise=(("LeadScored",), ("OfferPriced",), ("LeadContacted", "LeadSkipped")),
    ),
    Team(
        name="newsroom",
        agents=("triage", "fact_desk", "headline_desk", "editor"),
        sample="stories",
        promise=(("StoryTriaged",), ("FactsChecked",), ("HeadlineWritten",), ("StoryPublished", "StorySpiked")),
    ),
)


def tour() -> bool:
    """Runs the teams on a server of their own, and prints what came of it.

    Returns:
        Whether every root event gave what the teams promise.

    Raises:
        UsageError: The example teams are not here.
    """
    agents = [agent for team in TEAMS for agent in team.load()]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, so that nothing is left behind
    with LocalServer() as server:
        typer.echo(f"{len(agents)} agents of {len(TEAMS)} teams on nats-server {server.version} at {server.url}")
        settings = Settings(  # nothing that the environment says about another server
            namespace="demo",
            auto_provision=True,
            nats=NatsSettings(url=server.url),
            stream=StreamSettings(),
            retry=RetrySettings(),
        )
        kept = run_async(_tour(agents, settings))
    typer.echo(_NEXT)
    return kept


async def _tour(agents: Sequence[Agent[Any]], settings: Settings) -> bool:
    """Runs the teams and shows their flows; returns whether every root event gave what is promised."""
    flows: dict[str, list[Flow]] = {}
    async with Mesh.connect(settings) as mesh:
        async with _running(agents, settings):
            for root in (root for team in TEAMS for root in team.roots()):
                await mesh.emit(root)
            await _wait_for_the_end(mesh, agents)
        catalog = await Registry(mesh.connection, mesh.namespace).catalog()
        for team in TEAMS:
            flows[team.name] = await read_flows(mesh.connection, mesh.namespace, catalog, [team.name])

    kept = 0
    for team in TEAMS:
        broken = [flow for flow in flows[team.name] if not team.is_promised(flow)]
        kept += len(flows[team.name]) - len(broken)
        print_flow((broken or flows[team.name])[0], catalog)
    print_totals(flow for found in flows.values() for flow in found)
    total = _ROOTS * len(TEAMS)
    typer.echo(f"{kept} of {total} root events gave exactly the outputs that their agents promise")
    return kept == total


@asynccontextmanager
async def _running(agents: Sequence[Agent[Any]], settings: Settings) -> AsyncIterator[None]:
    """Runs agents in this process; leaving the block drains them."""
    worker = Worker(agents, settings)
    task = asyncio.create_task(worker.run())
    try:
        while not (worker.is_ready or task.done()):  # noqa: ASYNC110 - a worker only answers when it is asked
            await asyncio.sleep(_POLL)
        yield
    finally:
        worker.stop()
        await task


async def _wait_for_the_end(mesh: Mesh, agents: Iterable[Agent[Any]]) -> None:
    """Returns when no agent has anything left to do, or at the deadline.

    Agents are asked one after the other, and one that is done may get work from the next. So they are asked until two
    rounds find all of them done, with nothing delivered in between.
    """
    api = Api(mesh.connection)
    consumers = [(d.stream, d.name) for agent in agents for d in durables(mesh.namespace, agent)]
    before = None
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEADLINE):
            while True:
                found = [await api.call(f"CONSUMER.INFO.{stream}.{name}") for stream, name in consumers]
                done = not any(info["num_pending"] or info["num_ack_pending"] for info in found)
                delivered = [info["delivered"]["consumer_seq"] for info in found]
                if done and delivered == before:
                    return
                before = delivered if done else None
                await asyncio.sleep(_POLL)
