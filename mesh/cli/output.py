"""What the commands print: tables and sentences for people, JSON for programs, errors for both."""

import json
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.errors import MeshError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
"""The type of a command's parameter `as_json: JsonOption = False`."""

_WIDTH_OF_A_FILE = 1000  # nothing is wrapped in what other programs read


@cache
def console() -> "Console":
    """Standard output. Text is printed as it is: square brackets are no markup, numbers are not coloured."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    return Console(width=width, markup=False, highlight=False, emoji=False)


def print_json(document: object) -> None:
    """Prints the one document of a command called with `--json`."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_ndjson(document: object) -> None:
    """Prints one document of a stream on a line of its own; its reader has it at once."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def print_table(headers: Iterable[str], rows: Iterable[Iterable["RenderableType"]]) -> None:
    """Prints rows below headers, with columns as wide as they need to be. A cell is text, plain or of rich."""
    from rich.table import Table

    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_error(error: MeshError, *, as_json: bool) -> None:
    """Prints an error on standard error: one red sentence, or one JSON document."""
    if as_json:
        document = {"code": error.code, "object": error.object, "message": error.args[0], "cure": error.cure}
        typer.echo(json.dumps({"error": document}, ensure_ascii=False), err=True)
    else:
        typer.secho(str(error), fg="red", err=True)
