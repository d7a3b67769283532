"""What the commands print: tables and sentences for people, JSON for programs, errors for both."""

import json
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.errors import MeshError

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
"""The type of a command's parameter `as_json: JsonOption = False`."""

_WIDTH_OF_A_FILE = 1000  # nothing is wrapped in what other programs read


@cache
def console() -> "Console":
    """Standard output. Text is printed as it is: square brackets are no markup, numbers are not coloured."""
    return _console(is_error=False)


@cache
def error_console() -> "Console":
    """Standard error; see `console`."""
    return _console(is_error=True)


def print_json(document: object) -> None:
    """Prints the one document of a command called with `--json`."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_ndjson(document: object) -> None:
    """Prints one document of a stream on a line of its own; who reads has it at once."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def print_table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints rows below headers, with columns as wide as they need to be. A cell is a str or a rich renderable."""
    from rich.table import Table

    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell if hasattr(cell, "__rich__") or isinstance(cell, str) else _text(cell) for cell in row))
    console().print(table)


def print_error(error: MeshError, *, as_json: bool) -> None:
    """Prints an error on standard error: one sentence, or one JSON document."""
    if as_json:
        document = {"code": error.code, "object": error.object, "message": str(error), "cure": error.cure}
        typer.echo(json.dumps({"error": document}, ensure_ascii=False), err=True)
    else:
        error_console().print(str(error), style="red", soft_wrap=True)


def _console(*, is_error: bool) -> "Console":
    from rich.console import Console

    stream: Any = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else _WIDTH_OF_A_FILE
    return Console(stderr=is_error, width=width, markup=False, highlight=False, emoji=False)
