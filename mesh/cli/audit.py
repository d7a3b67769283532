"""`mesh audit`: is anything lost, repeated or out of thin air?"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.events import printable
from mesh.cli.exit_code import ExitCode
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from mesh.query.audit import Audit, DomainAudit
    from mesh.query.tally import Tally

_COLUMNS = ("handled", "answered", "dead", "pending")


def audit(
    *,
    domain: Annotated[str | None, typer.Option(help="Report on this domain only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count from the log what agents did with their events, and look for what must not be there.

    Looks for events with the same id, effects without a cause, inputs that were committed twice, gaps between
    decisions, outputs that did not reach their domain, commands that two agents handled. Whatever it finds has a place
    in the log, which mesh show takes.

    Answered are events that led to an output, a decision or new state; a handler that does nothing leaves no trace.

    Exits with 1 if it finds any.
    """
    found = run_async(_audit(domain))
    if as_json:
        print_json(_document(found))
    else:
        for audited in found.domains:
            _print_domain(audited)
        print_table(("must not be", "found"), ([_words(name), f"{count:>5}"] for name, count in found.broken.items()))
    if any(found.broken.values()):
        raise typer.Exit(ExitCode.FAILED)


async def _audit(domain: str | None) -> "Audit":
    from mesh.client import Mesh
    from mesh.query.audit import audit
    from mesh.query.domains import domain_streams

    async with Mesh.connect() as mesh:
        domains = await domain_streams(mesh.connection, mesh.namespace, domain)
        return await audit(mesh.connection, mesh.namespace, domains)


def _document(found: "Audit") -> dict[str, object]:
    return {"domains": [asdict(audited) for audited in found.domains], "broken": found.broken}


def _print_domain(audited: "DomainAudit") -> None:
    typer.secho(f"{audited.domain}: {audited.events} events in {audited.stream}", bold=True)
    if audited.agents:
        print_table(("  agent", *(f"{name:>9}" for name in _COLUMNS)), map(_row, audited.agents))
    for violation in audited.violations:
        typer.secho(printable(f"  {_words(violation.invariant):<14}  {violation.place}  {violation.finding}"), fg="red")
    typer.echo()


def _row(tally: "Tally") -> list[str]:
    counts = (getattr(tally, name) for name in _COLUMNS)
    return [printable(f"  {tally.agent}"), *(f"{'-' if count is None else count:>9}" for count in counts)]


def _words(name: str) -> str:
    return name.replace("_", " ")
