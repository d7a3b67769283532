"""`mesh doctor`: is everything there that agents need?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from mesh.cli.exit_code import ExitCode
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from mesh.cli.checks import Finding

_COLORS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, as_json: JsonOption = False) -> None:
    """Check what agents need, and show the settings.

    Looks at NATS and its limits, clocks, tracing and optional parts.

    Exits with 1 if a check fails, with 3 if NATS cannot be reached.
    """
    from dataclasses import asdict

    from mesh.cli.checks import examine, in_force
    from mesh.settings import Settings

    settings = Settings.load()
    findings = run_async(examine(settings))
    if as_json:
        print_json({"checks": [asdict(finding) for finding in findings], "settings": in_force(settings)})
    else:
        _print(findings, in_force(settings))
    failed = {finding.check for finding in findings if finding.status == "fail"}
    if failed:
        raise typer.Exit(ExitCode.UNREACHABLE if "nats" in failed else ExitCode.FAILED)


def _print(findings: "Sequence[Finding]", settings: Mapping[str, object]) -> None:
    from rich.text import Text

    print_table(
        ("", "check", "found", "cure"),
        ((Text(f.status, _COLORS[f.status]), f.check, f.detail, f.cure) for f in findings),
    )
    typer.echo()
    print_table(("setting", "value"), ((name, "" if value is None else str(value)) for name, value in settings.items()))
