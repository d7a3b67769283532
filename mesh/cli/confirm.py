"""Asks before something is lost."""

import sys
from typing import Annotated

import typer

from mesh.errors import UsageError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
"""The type of a command's parameter `yes: YesOption = False`."""


def confirm(question: str, *, yes: bool) -> None:
    """Asks a person; ends the command with exit code 1 when the answer is no.

    Raises:
        UsageError: There is nobody to ask, and `yes` is not set.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, and there is nobody to ask", object="--yes", cure="add --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
