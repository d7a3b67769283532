"""`mesh dlq`: what agents gave up on."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.cli.confirm import YesOption, confirm
from mesh.cli.events import ShowPiiOption, age, printable
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, print_error, print_json, print_table
from mesh.cli.types import TypeOption, find_type
from mesh.errors import NotFound, UsageError

if TYPE_CHECKING:
    from mesh.client import Mesh
    from mesh.query.dead_letters import DeadEvent, DeadLetters
    from mesh.query.record import Record

AgentOption = Annotated[str | None, typer.Option(metavar="AGENT", help="Only what this agent gave up.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids of the events.")]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters.")]

_FAILED = "failed"

app = typer.Typer(help="Dead letters: events that an agent gave up on.", rich_markup_mode=None)


@app.command("ls")
def list_(
    *,
    agent: AgentOption = None,
    every: Annotated[bool, typer.Option("--all", help="List every dead letter instead of groups.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, grouped by agent, event and error."""
    run_async(_list(agent, every=every, as_json=as_json))


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the event.")],
    *,
    agent: AgentOption = None,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Show all about a dead letter.

    Personal data is masked in the payload. Reason and traceback are shown as the agent left them.
    """
    run_async(_show(event_id, agent, as_json=as_json, show_pii=show_pii))


@app.command()
def redrive(
    event_ids: IdsArgument = None,
    *,
    agent: AgentOption = None,
    type_name: TypeOption = None,
    every: AllOption = False,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="Corrected payload, for a single dead letter.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give events to their agent once more.

    No other agent gets them. They keep their ids, so what the agent emits keeps its ids as well. The dead letter goes.
    """
    run_async(_redrive(_Choice(event_ids, agent, type_name, every=every), payload, as_json=as_json))


@app.command()
def discard(
    event_ids: IdsArgument = None,
    *,
    agent: AgentOption = None,
    type_name: TypeOption = None,
    every: AllOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters for good."""
    run_async(_discard(_Choice(event_ids, agent, type_name, every=every), yes=yes, as_json=as_json))


class _Choice:
    """Which dead letters a command is about.

    Raises:
        UsageError: It does not say so.
    """

    def __init__(self, event_ids: list[str] | None, agent: str | None, type_name: str | None, *, every: bool) -> None:
        if not (event_ids or agent or every) or (every and (event_ids or agent)):
            raise UsageError("say which dead letters", object="ID", cure="name ids, or one of --agent and --all")
        self._event_ids = event_ids
        self._agent = agent
        self._type_name = type_name

    async def find(self, mesh: "Mesh", letters: "DeadLetters") -> "list[DeadEvent]":
        """The dead letters."""
        if self._event_ids:
            found = await letters.find(self._event_ids, self._agent)
        else:
            found = [dead async for dead in letters.all(self._agent)]
        if self._type_name is None:
            return found
        kind = await find_type(mesh, self._type_name)
        return [dead for dead in found if dead.label == kind.label]


async def _list(agent: str | None, *, every: bool, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.dead_letters import DeadLetters

    async with Mesh.connect() as mesh:
        summaries = [_summary(dead) async for dead in DeadLetters(mesh.connection, mesh.namespace).all(agent)]
    shown = summaries if every else _groups(summaries)
    if as_json:
        print_json([entry | _iso(entry) for entry in shown])
    elif not shown:
        typer.echo("there are no dead letters")
    else:
        names = [name for name in shown[0] if name != "reason"]
        print_table(names, ([_cell(entry[name]) for name in names] for entry in shown))


def _summary(dead: "DeadEvent") -> dict[str, Any]:
    letter = dead.letter
    return {
        "id": letter.event_id,
        "agent": letter.agent,
        "event": dead.label,
        "entity": letter.entity,
        "error": dead.error,
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "since": dead.time,
        "reason": letter.reason,
    }


def _groups(summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grouped = defaultdict(list)
    for summary in sorted(summaries, key=lambda summary: summary["since"]):
        grouped[summary["agent"], summary["event"], summary["error"]].append(summary)
    return [
        {"agent": agent, "event": event, "error": error, "count": len(group)}
        | {"oldest": group[0]["since"], "newest": group[-1]["since"]}
        | {"example": group[-1]["id"], "reason": group[-1]["reason"]}
        for (agent, event, error), group in sorted(grouped.items())
    ]


def _iso(entry: dict[str, Any]) -> dict[str, str]:
    return {name: value.isoformat() for name, value in entry.items() if isinstance(value, datetime)}


def _cell(value: object) -> str:
    return f"{age(value)} ago" if isinstance(value, datetime) else printable(str(value))


async def _show(event_id: str, agent: str | None, *, as_json: bool, show_pii: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.dead_letters import DeadLetters

    async with Mesh.connect() as mesh:
        letters = DeadLetters(mesh.connection, mesh.namespace)
        found = [(dead, await letters.event(dead)) for dead in await letters.find([event_id], agent)]
    if as_json:
        print_json([_everything(dead, event, show_pii=show_pii) for dead, event in found])
        return
    for dead, event in found:
        _print_dead(dead, event, show_pii=show_pii)


def _everything(dead: "DeadEvent", event: "Record | None", *, show_pii: bool) -> dict[str, Any]:
    letter = dead.letter
    shown = _summary(dead)
    return (shown | _iso(shown)) | {
        "type": letter.type,
        "code": letter.code,
        "error_type": letter.error_type,
        "published": letter.published.ToDatetime(UTC).isoformat(),
        "subject": letter.subject,
        "place": f"{letter.stream}:{letter.stream_sequence}",
        "headers": dict(letter.headers),
        "traceback": letter.traceback,
        "data": event.data(show_pii=show_pii) if event else None,
    }


def _print_dead(dead: "DeadEvent", event: "Record | None", *, show_pii: bool) -> None:
    everything = _everything(dead, event, show_pii=show_pii)
    headers, trace, data = (everything.pop(name) for name in ("headers", "traceback", "data"))
    typer.secho(f"{dead.label} {printable(dead.letter.entity)}, given up by {dead.letter.agent}", bold=True)
    for name, value in (everything | {f"  {name}": value for name, value in headers.items()}).items():
        typer.echo(f"  {name:<24}{printable(str(value))}")
    for line in trace.splitlines():
        typer.echo(f"  {printable(line)}")
    if data is not None:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"  {event.size} bytes that do not decode" if event else "  the payload has left the stream")


async def _redrive(choice: _Choice, payload: str | None, *, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.dead_letters import DeadLetters

    outcomes: list[tuple[DeadEvent, str]] = []
    async with Mesh.connect() as mesh:
        letters = DeadLetters(mesh.connection, mesh.namespace)
        chosen = await choice.find(mesh, letters)
        if payload is not None and len(chosen) != 1:
            raise UsageError(
                f"--payload corrects one dead letter, not {len(chosen)}", object="--payload", cure="name one by its id"
            )
        corrected = None if payload is None else await letters.corrected(chosen[0], payload)
        try:
            for dead in chosen:
                outcome = await _redriven(letters, dead, corrected, as_json=as_json)
                outcomes.append((dead, outcome))
        finally:
            _print_outcomes(outcomes, as_json=as_json)
    if any(outcome == _FAILED for _, outcome in outcomes):
        raise typer.Exit(1)


async def _redriven(letters: "DeadLetters", dead: "DeadEvent", corrected: bytes | None, *, as_json: bool) -> str:
    try:
        committed = await letters.redrive(dead, corrected)
    except NotFound as error:
        print_error(error, as_json=as_json)
        return _FAILED
    return "was redriven before" if committed.duplicate else "redriven"


async def _discard(choice: _Choice, *, yes: bool, as_json: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.dead_letters import DeadLetters

    async with Mesh.connect() as mesh:
        letters = DeadLetters(mesh.connection, mesh.namespace)
        chosen = await choice.find(mesh, letters)
        if chosen:
            confirm(f"dead letters that will be gone for good: {len(chosen)}; go on?", yes=yes)
        for dead in chosen:
            await letters.discard(dead)
    _print_outcomes([(dead, "discarded") for dead in chosen], as_json=as_json)


def _print_outcomes(outcomes: "list[tuple[DeadEvent, str]]", *, as_json: bool) -> None:
    shown = [
        {"id": dead.letter.event_id, "agent": dead.letter.agent, "event": dead.label, "outcome": outcome}
        for dead, outcome in outcomes
    ]
    if as_json:
        print_json(shown)
    elif shown:
        print_table(shown[0], (map(printable, entry.values()) for entry in shown))
    else:
        typer.echo("no dead letter was touched")
