"""`mesh show`: one event, where it came from and what it caused."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.events import ShowPiiOption, clock, entity, print_event, printable
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_json
from mesh.errors import NotFound

if TYPE_CHECKING:
    from mesh.query.record import Record
    from mesh.runtime.ports import Stored


def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the event, or its place: MESH_REVOPS:42.")],
    *,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Show one event and what it caused.

    A place in the log is found at once. An id is searched for, which takes a while where the log is long. What the
    event caused is searched for among the 100 000 messages after it.
    """
    run_async(_show(event_id, as_json=as_json, show_pii=show_pii))


async def _show(event_id: str, *, as_json: bool, show_pii: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.decoder import Decoder
    from mesh.query.find import Finder

    async with Mesh.connect() as mesh:
        decoder, finder = Decoder(mesh.connection, mesh.namespace), Finder(mesh.connection, mesh.namespace)
        stream, stored = await finder.event(event_id)
        record = await decoder.decode(stream, stored)
        if record is None:
            raise NotFound(f"{stored.subject} is no subject of mesh", object=event_id, cure="name an event")
        found = [await decoder.decode(*effect) for effect in await finder.effects(record.id, stream, stored)]
        effects = [effect for effect in found if effect]
        if as_json:
            shown = record.as_json(show_pii=show_pii) | {"headers": dict(stored.headers)}
            print_json(shown | {"effects": [effect.as_json(show_pii=show_pii) for effect in effects]})
            return
        _print_record(record, stored, entity(record, decoder.contract(record)), show_pii=show_pii)
        for effect in effects:
            print_event(mesh.namespace, decoder, effect, show_pii=show_pii)


def _print_record(record: "Record", stored: "Stored", about: str, *, show_pii: bool) -> None:
    facts = {
        "id": record.id,
        "about": about,
        "emitted by": record.agent or f"{stored.headers.get('ce-source', 'somebody')}, which is no agent",
        "caused by": record.causation_id or "nothing: it is a root",
        "correlation": record.correlation_id,
        "stored": f"{clock(record.time)} at {record.stream}:{record.seq}",
        "subject": record.subject,
    }
    typer.secho(printable(record.type or "unknown type"), bold=True)
    for name, value in (facts | {f"  {name}": value for name, value in stored.headers.items()}).items():
        typer.echo(f"  {name:<24}{printable(value)}")
    data = record.data(show_pii=show_pii)
    typer.echo(
        f"  {record.size} bytes that do not decode" if data is None else json.dumps(data, indent=2, ensure_ascii=False)
    )
