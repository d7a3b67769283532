"""`mesh tail`: events as they happen."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.events import ShowPiiOption, print_event
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_ndjson
from mesh.cli.types import TypeOption, find_type
from mesh.errors import UsageError

if TYPE_CHECKING:
    from mesh.query.follow import Selection


def tail(
    *,
    agent: Annotated[str | None, typer.Option(help="Only what this agent emitted or gave up.")] = None,
    type_name: TypeOption = None,
    key: Annotated[str | None, typer.Option(help="Only what has this key.")] = None,
    correlation: Annotated[str | None, typer.Option(metavar="ID", help="Only what descends from this event.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    since: Annotated[
        str, typer.Option(metavar="AGE|TIME|all", help="Begin in the past: 10m, 2026-11-01T00:00:00Z, all.")
    ] = "new",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Follow events, commands and dead letters.

    It reads all domains, until Ctrl-C. Each domain keeps its order; between domains the order is that of arrival.
    """
    from mesh.query.follow import Selection

    selection = Selection(domain=domain, key=key, agent=agent, correlation_id=correlation)
    run_async(_tail(selection, type_name, since, limit, as_json=as_json, show_pii=show_pii))


async def _tail(
    selection: "Selection", type_name: str | None, since: str, limit: int | None, *, as_json: bool, show_pii: bool
) -> None:
    from mesh.agent.deliver import parse_deliver
    from mesh.client import Mesh
    from mesh.contract.event_type import Kind
    from mesh.query.follow import Follower

    start = parse_deliver(since if since in ("all", "new") else f"since:{since}")
    async with Mesh.connect() as mesh:
        if type_name:
            selection = replace(selection, type=await find_type(mesh, type_name))
        if selection.type and selection.type.kind is Kind.STATE:
            raise UsageError(
                f"{selection.type.full_name} is a state", object="--type", cure="name an event or a command"
            )
        follower = Follower(mesh.connection, mesh.namespace, selection, start)
        shown = 0
        async with follower.open() as records:
            async for record in records:
                if as_json:
                    print_ndjson(record.as_json(show_pii=show_pii))
                else:
                    print_event(mesh.namespace, follower.decoder, record, show_pii=show_pii)
                shown += 1
                if shown == limit:
                    return
