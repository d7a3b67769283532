"""`mesh plan` and `mesh apply`: streams, consumers and registry for agents."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.cli.loading import AgentsArgument, AppDirOption, load_agents, run_async
from mesh.cli.output import JsonOption, print_json, print_table
from mesh.errors import Refused

if TYPE_CHECKING:
    from mesh.agent.agent import Agent
    from mesh.jetstream.provision import Step

PruneOption = Annotated[
    bool, typer.Option("--prune", help="Take subjects from consumers that the agents no longer read.")
]
DestructiveOption = Annotated[
    bool, typer.Option("--allow-destructive", help="Shorten how long streams keep events, and lower replicas.")
]

_COLORS = {"create": "green", "update": "yellow", "keep": "dim", "refuse": "red"}


def plan(
    agents: AgentsArgument,
    *,
    app_dir: AppDirOption = Path(),
    prune: PruneOption = False,
    allow_destructive: DestructiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what `mesh apply` would do."""
    run_async(_plan(load_agents(agents, app_dir), prune, allow_destructive, as_json, take=False))


def apply(
    agents: AgentsArgument,
    *,
    app_dir: AppDirOption = Path(),
    prune: PruneOption = False,
    allow_destructive: DestructiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create or update what agents need on the server.

    That is streams, consumers, and the registry of what the agents declare.

    Prints its plan first. When a step is refused, nothing at all is changed.
    """
    run_async(_plan(load_agents(agents, app_dir), prune, allow_destructive, as_json, take=True))


async def _plan(
    agents: "Sequence[Agent[Any]]", prune: bool, allow_destructive: bool, as_json: bool, *, take: bool
) -> None:
    from mesh.contract.namespace import Namespace
    from mesh.jetstream.api import Api
    from mesh.jetstream.connection import connect
    from mesh.jetstream.provision import Provisioner
    from mesh.jetstream.registry import Registry
    from mesh.jetstream.topology import topology
    from mesh.settings import Settings

    settings = Settings.load()
    namespace = Namespace(settings.namespace)
    connection = await connect(settings.nats, "mesh apply" if take else "mesh plan")
    try:
        provisioner = Provisioner(Api(connection), settings.stream, prune=prune, allow_destructive=allow_destructive)
        steps = await provisioner.plan(topology(namespace, settings.stream, agents))
        _print(steps, as_json)
        if take:
            _refuse_as_a_whole(steps)
            for step in steps:
                await step.run()
            registry = Registry(connection, namespace)
            for agent in agents:
                await registry.register(agent)
            if not as_json:
                typer.echo(f"applied; registered {', '.join(agent.name for agent in agents)}")
    finally:
        await connection.close()


def _refuse_as_a_whole(steps: "Sequence[Step]") -> None:
    from mesh.jetstream.provision import Verb

    for step in steps:
        if step.verb is Verb.REFUSE:
            raise Refused(
                f"nothing was changed, because {step.object} cannot be: {step.changes[0]}",
                code="plan_refused",
                object=step.object,
            )


def _print(steps: "Sequence[Step]", as_json: bool) -> None:
    if as_json:
        print_json({"steps": [{"verb": s.verb, "object": s.object, "changes": s.changes} for s in steps]})
        return
    from rich.text import Text

    print_table(
        ("step", "object", "changes"),
        ((Text(step.verb, _COLORS[step.verb]), step.object, "\n".join(step.changes)) for step in steps),
    )
