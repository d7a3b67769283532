"""`mesh state`: what agents remember about entities."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.cli.events import ShowPiiOption, clock, entity, payload, print_line, printable
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_json, print_ndjson
from mesh.cli.types import TypeArgument, find_type
from mesh.errors import UsageError

if TYPE_CHECKING:
    from mesh.client import Mesh
    from mesh.contract.event_type import EventType
    from mesh.query.record import Record

StateArgument = Annotated[
    str | None, typer.Argument(metavar="TYPE", help="crm.v1.Lead, crm.lead or Lead; all types when not given.")
]

_FACTS = ("type", "key", "stream", "seq", "time", "subject", "data")

app = typer.Typer(help="Shared state of entities.", rich_markup_mode=None)


@app.command()
def get(
    type_name: TypeArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of the entity.")],
    *,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Show the state of one entity."""
    run_async(_get(type_name, key, as_json=as_json, show_pii=show_pii))


@app.command("ls")
def list_(
    type_name: StateArgument = None,
    *,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """List the states there are.

    Those that changed last come at the end of their domain.
    """
    run_async(_list(type_name, domain, as_json=as_json, show_pii=show_pii))


@app.command()
def watch(
    type_name: StateArgument = None,
    *,
    key: Annotated[str | None, typer.Option(help="Only the entity with this key.")] = None,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Show the states there are, then every change until Ctrl-C.

    Of changes that come faster than they can be read, the last one is shown; a deletion that happens while the
    connection is lost is not.
    """
    run_async(_watch(type_name, key, as_json=as_json, show_pii=show_pii))


async def _get(type_name: str, key: str, *, as_json: bool, show_pii: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.state import read_state

    async with Mesh.connect() as mesh:
        kind = await _find_state(mesh, type_name)
        record = await read_state(mesh.connection, mesh.namespace, kind, key)
    if as_json:
        print_json(_as_json(record, show_pii=show_pii))
        return
    typer.secho(printable(f"{kind.full_name} of {kind.entity_type}/{key}"), bold=True)
    typer.echo(f"  stored {clock(record.time)} at {record.stream}:{record.seq}")
    data = record.data(show_pii=show_pii)
    typer.echo(
        f"  {record.size} bytes that do not decode" if data is None else json.dumps(data, indent=2, ensure_ascii=False)
    )


async def _list(type_name: str | None, domain: str | None, *, as_json: bool, show_pii: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.decoder import Decoder
    from mesh.query.follow import Selection
    from mesh.query.state import read_states

    async with Mesh.connect() as mesh:
        kind = await _find_state(mesh, type_name) if type_name else None
        decoder = Decoder(mesh.connection, mesh.namespace)
        selection = Selection(domain=domain, type=kind, states=True)
        records = read_states(mesh.connection, mesh.namespace, decoder, selection)
        if as_json:
            print_json([_as_json(record, show_pii=show_pii) async for record in records])
            return
        found = False
        async for record in records:
            _print_state(decoder.contract(record), record, show_pii=show_pii)
            found = True
    if not found:
        typer.echo("there is no state")


async def _watch(type_name: str | None, key: str | None, *, as_json: bool, show_pii: bool) -> None:
    from mesh.agent.deliver import Start
    from mesh.client import Mesh
    from mesh.query.follow import Follower, Selection

    async with Mesh.connect() as mesh:
        kind = await _find_state(mesh, type_name) if type_name else None
        follower = Follower(mesh.connection, mesh.namespace, Selection(type=kind, key=key, states=True), Start("all"))
        async with follower.open() as records:
            async for record in records:
                if as_json:
                    print_ndjson(_as_json(record, show_pii=show_pii))
                else:
                    _print_state(follower.decoder.contract(record), record, show_pii=show_pii)


async def _find_state(mesh: "Mesh", text: str) -> "EventType":
    from mesh.contract.event_type import Kind

    kind = await find_type(mesh, text)
    if kind.kind is not Kind.STATE:
        raise UsageError(
            f"{kind.full_name} is no state", code="not_a_state", object=text, cure="name one of mesh state ls"
        )
    return kind


def _as_json(record: "Record", *, show_pii: bool) -> dict[str, Any]:
    values = record.as_json(show_pii=show_pii)
    return {name: values[name] for name in _FACTS} | {"deleted": record.deleted}


def _print_state(contract: "EventType | None", record: "Record", *, show_pii: bool) -> None:
    print_line(
        [
            (clock(record.time), "dim"),
            (f"{contract.label if contract else record.type:<22}", "bold"),
            (f"{entity(record, contract):<12}", ""),
            (f"{record.stream}:{record.seq}", "dim"),
            (payload(record, contract, show_pii=show_pii), "red" if record.deleted else ""),
        ]
    )
