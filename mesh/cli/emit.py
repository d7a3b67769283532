"""`mesh emit`: events and commands from the command line, one or a file full."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, console, print_error, print_json
from mesh.cli.rows import CsvRows, Rejected, Row, read_jsonl
from mesh.cli.types import TypeArgument, find_type
from mesh.errors import MeshError, Unreachable, UsageError

if TYPE_CHECKING:
    from mesh.cli.bulk import Totals
    from mesh.client import Mesh
    from mesh.contract.event_type import EventType

    type Read = Callable[[EventType, Iterable[str]], Iterator[Row | Rejected]]

_STDIN = "-"


def emit(
    type_name: TypeArgument,
    payload: Annotated[
        str | None, typer.Argument(metavar="JSON", help="The payload; - reads it from standard input.")
    ] = None,
    *,
    jsonl: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="JSON Lines file, one payload per line; or -.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="CSV file, one payload per row; or -.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names of the columns of a CSV file that has no header row.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field that is called otherwise; repeatable."),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Idempotency key: an event of the same type and id is stored once."
            " With --csv the column, with --jsonl the member that holds it.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish events or commands: one from JSON, or a file of them.

    A row of a file that does not fit is reported with its line number; all others are sent.
    """
    if sum(source is not None for source in (payload, jsonl, csv)) != 1:
        raise UsageError("give one payload, or one file of them", object="JSON", cure="write JSON, --jsonl or --csv")
    if csv is None and (columns is not None or mapping):
        raise UsageError("--columns and --map describe a CSV file", object="--csv", cure="name the file with --csv")
    if payload is not None:
        run_async(_emit_one(type_name, payload, event_id, as_json=as_json))
    elif jsonl:
        run_async(_emit_file(type_name, jsonl, lambda kind, lines: read_jsonl(lines, kind, event_id), as_json=as_json))
    elif csv:
        run_async(_emit_file(type_name, csv, _csv_reader(columns, mapping or [], event_id), as_json=as_json))


async def _emit_one(type_name: str, payload: str, event_id: str | None, *, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.payload import parse_object, to_message

    text = sys.stdin.read() if payload == _STDIN else payload
    async with Mesh.connect() as mesh:
        kind = await _find_emittable(mesh, type_name)
        message = to_message(kind, parse_object(text))
        emitted = await mesh.publish(kind, message, id=event_id)
        key, stream = kind.key(message), mesh.namespace.stream(kind.domain.name)
    if as_json:
        subject = kind.subject(mesh.namespace, key)
        print_json(
            {"id": emitted.id, "type": kind.full_name, "subject": subject, "stream": stream, "seq": emitted.seq}
            | {"duplicate": emitted.duplicate}
        )
        return
    outcome = "was there already" if emitted.duplicate else "sent"
    console().print(f"{kind.label} {kind.entity_type}/{key} {outcome}: {emitted.id} ({stream}:{emitted.seq})")


async def _emit_file(type_name: str, path: Path, read: "Read", *, as_json: bool) -> None:
    from mesh.cli.bulk import Publisher, Totals
    from mesh.client import Mesh
    from mesh.settings import Settings

    totals, settings = Totals(), Settings.load()

    def reject(row: Rejected) -> None:
        place = f"{path}:{row.line}"
        print_error(MeshError(f"{place}: {row.reason}", code="row_rejected", object=place), as_json=as_json)

    try:
        with _open(path, quiet=as_json) as lines:
            async with Mesh.connect(settings) as mesh:
                kind = await _find_emittable(mesh, type_name)
                await Publisher(mesh, kind, totals, reject).publish(read(kind, lines))
    except BaseException as error:
        if totals != Totals():
            _print_totals(totals, as_json=as_json)
            if isinstance(error, Unreachable):
                raise _interrupted(error, totals, settings.stream.duplicate_window) from error
        raise
    _print_totals(totals, as_json=as_json)
    if totals.rejected:
        raise typer.Exit(1)


async def _find_emittable(mesh: "Mesh", type_name: str) -> "EventType":
    from mesh.contract.event_type import Kind

    kind = await find_type(mesh, type_name)
    if kind.kind is Kind.STATE:
        raise UsageError(
            f"{kind.full_name} is a state, which agents write", object=type_name, cure="name an event or a command"
        )
    return kind


def _csv_reader(columns: str | None, mapping: list[str], id_column: str | None) -> "Read":
    names = None if columns is None else columns.split(",")
    by_field = {}
    for text in mapping:
        field, equals, column = text.partition("=")
        if not (field and equals and column):
            raise UsageError(f"{text!r} is no mapping", object="--map", cure="write --map field=column")
        by_field[field] = column

    def read(kind: "EventType", lines: Iterable[str]) -> Iterator[Row | Rejected]:
        rows = CsvRows(lines, kind, columns=names, mapping=by_field, id_column=id_column)
        if rows.ignored:
            typer.echo(f"{kind.full_name} has no field for: {', '.join(rows.ignored)}", err=True)
        yield from rows

    return read


@contextmanager
def _open(path: Path, *, quiet: bool) -> Iterator[Iterable[str]]:
    """The lines of a file, with a progress bar for people; bytes that are not UTF-8 become surrogate escapes."""
    from rich.console import Console
    from rich.progress import Progress

    if str(path) == _STDIN:
        # Not sys.stdin: the interpreter could not end while a thread waits in it.
        with open(0, encoding="utf-8-sig", errors="surrogateescape", newline="", closefd=False) as stdin:
            yield stdin
        return
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=quiet or not terminal.is_terminal) as progress:
        try:
            lines = progress.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", object=str(path), cure="name a file") from None
        with lines:
            yield lines


def _print_totals(totals: "Totals", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(totals))
    else:
        console().print(f"sent {totals.sent}, duplicates {totals.duplicates}, rejected {totals.rejected}")


def _interrupted(error: Unreachable, totals: "Totals", window: float) -> Unreachable:
    return Unreachable(
        f"{error}; {totals.sent + totals.duplicates} rows were acknowledged before",
        object=error.object,
        cure=f"repeat the command; with --id, what was stored within the last {window:g} s is not stored again",
    )
