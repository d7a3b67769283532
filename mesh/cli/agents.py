"""`mesh agents`: which agents there are, who runs them, what waits for them."""

import asyncio
import time
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.cli.confirm import YesOption, confirm
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, console, print_json, print_ndjson, print_table

if TYPE_CHECKING:
    from mesh.query.agents import AgentStatus
    from mesh.v1.registry_pb2 import Presence

_PAUSE = 2.0
_TOTALS = ("handled", "failed", "dead_lettered")

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def agents(
    context: typer.Context,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, with the deliveries settled per second.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List agents: who runs, what waits for whom.

    The lag counts events that are not settled yet; handled, failed and dead count since the processes started.
    """
    if context.invoked_subcommand is None:
        run_async(_watch(as_json=as_json) if watch else _list(as_json=as_json))


@app.command()
def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Also while a process runs it.")] = False,
    yes: YesOption = False,
) -> None:
    """Retire an agent.

    Its consumers go, with what is pending in them, its declaration, and the commands it owns. What it emitted, its
    state and its dead letters stay.
    """
    run_async(_retire(name, force=force, yes=yes))


async def _list(*, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.agents import Agents

    async with Mesh.connect() as mesh:
        found = await Agents(mesh.connection, mesh.namespace).all()
    if as_json:
        print_json([_as_json(status) for status in found])
    else:
        _print_agents(found, {})


async def _watch(*, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.agents import Agents

    async with Mesh.connect() as mesh:
        reader = Agents(mesh.connection, mesh.namespace)
        before: dict[str, int] = {}
        looked = time.monotonic()
        while True:
            found, now = await reader.all(), time.monotonic()
            settled = {status.declaration.name: status.settled for status in found}
            # A consumer that was made anew counts from 0 again.
            rates = {
                name: max(count - before[name], 0) / (now - looked) for name, count in settled.items() if name in before
            }
            if as_json:
                print_ndjson([_as_json(status) | {"rate": rates.get(status.declaration.name)} for status in found])
            else:
                console().clear()
                _print_agents(found, rates)
            before, looked = settled, now
            await asyncio.sleep(_PAUSE)


async def _retire(name: str, *, force: bool, yes: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.agents import Agents

    async with Mesh.connect() as mesh:
        reader = Agents(mesh.connection, mesh.namespace)
        status = await reader.get(name)
        if not force:
            status.check_stopped()
        for backlog in status.backlogs:
            waiting = backlog.pending + backlog.unsettled
            typer.echo(f"{backlog.stream}/{backlog.durable}: {waiting} events are not settled")
        confirm(f"retire {name}? it will never see events that are not settled", yes=yes)
        await reader.retire(status)
    typer.echo(f"{name} is retired")


def _print_agents(found: "list[AgentStatus]", rates: dict[str, float]) -> None:
    if not found:
        typer.echo("no agent has been started here yet")
        return
    headers = ["agent", "state", "processes", "lag", "handled", "failed", "dead", *(["per s"] if rates else [])]
    rows = []
    for status in found:
        name, running = status.declaration.name, status.processes
        numbers = [len(running), status.lag, *_totals(status).values()]
        rate = [f"{rates.get(name, 0):.1f}"] if rates else []
        rows.append([name, status.state, *map(str, numbers), *rate])
    print_table(headers, rows)


def _totals(status: "AgentStatus") -> dict[str, int]:
    return {name: sum(getattr(process, name) for process in status.processes) for name in _TOTALS}


def _as_json(status: "AgentStatus") -> dict[str, Any]:
    declared = status.declaration
    return {
        "agent": declared.name,
        "description": declared.description,
        "version": declared.version,
        "state": status.state,
        "lag": status.lag,
        **_totals(status),
        "handles": [handler.consumes for handler in declared.handlers],
        "emits": sorted({output for handler in declared.handlers for output in handler.emits}),
        "processes": [_process(process) for process in status.processes],
        "durables": [asdict(backlog) for backlog in status.backlogs],
    }


def _process(process: "Presence") -> dict[str, Any]:
    return {
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "started": process.started.ToDatetime(UTC).isoformat(),
        "in_flight": process.in_flight,
        **{name: getattr(process, name) for name in _TOTALS},
    }
