"""`mesh why`: who decided what about an entity, on which evidence, and who overrode whom."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.events import ShowPiiOption, clock, entity, payload, printable
from mesh.cli.loading import run_async
from mesh.cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from mesh.query.why import Choice, Question, Reference
    from mesh.v1.decision_pb2 import Decision

_WIDTH = 100  # longer lines are hard to read, in a wide terminal and in a file
_NAMES = 16


def why(
    about: Annotated[str, typer.Argument(metavar="ENTITY", help="lead/42", show_default=False)],
    *,
    question: Annotated[str | None, typer.Option(help="Only the decisions on this question.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only the decisions of this domain.")] = None,
    as_json: JsonOption = False,
    show_pii: ShowPiiOption = False,
) -> None:
    """Show the decisions about an entity, oldest first; the last one on a question holds.

    Evidence about other entities is searched for: a long log takes a while.
    """
    run_async(_why(about, question, domain, as_json=as_json, show_pii=show_pii))


async def _why(about: str, question: str | None, domain: str | None, *, as_json: bool, show_pii: bool) -> None:
    from mesh.client import Mesh
    from mesh.query.why import read_questions

    async with Mesh.connect() as mesh:
        questions = await read_questions(mesh.connection, mesh.namespace, about, question=question, domain=domain)
    if as_json:
        print_json({"entity": about, "questions": [found.as_json(show_pii=show_pii) for found in questions]})
        return
    for found in questions:
        _print_question(about, found, show_pii=show_pii)


def _print_question(about: str, question: "Question", *, show_pii: bool) -> None:
    typer.secho(printable(f"{question.name} of {about}, decided in {question.domain}"), bold=True)
    for choice in question.choices:
        typer.echo()
        _print_choice(choice, holds=choice is question.choices[-1], show_pii=show_pii)
    typer.echo()


def _print_choice(choice: "Choice", *, holds: bool, show_pii: bool) -> None:
    decision, overridden = choice.decision, choice.overridden
    _print_wrapped(
        f"  {clock(choice.record.time)}  ",
        f"{decision.agent} chose {decision.choice}{' (holds)' if holds else ''}",
    )
    seen = "which it had seen" if decision.had_seen else "which it had not seen"
    facts = {
        "because": decision.because,
        "confidence": f"{decision.confidence:.3g}" if decision.HasField("confidence") else "",
        "instead of": ", ".join(decision.alternatives),
        "model": _model(decision),
        "overrides": f"{overridden.choice} of {overridden.agent}, {seen}" if overridden else "",
        "stored at": f"{choice.record.stream}:{choice.record.seq}",
    }
    for name, text in facts.items():
        if text:
            _print_wrapped(_named(name), text)
    _print_reference("handling", choice.handled, show_pii=show_pii)
    for evidence in choice.evidence:
        if evidence is choice.handled:
            typer.echo(f"{_named('evidence')}the event that was handled")
        else:
            _print_reference("evidence", evidence, show_pii=show_pii)


def _print_reference(name: str, reference: "Reference", *, show_pii: bool) -> None:
    """Prints the id of an event on a line of its own, whole, and below it what it says, as far as the line goes."""
    typer.echo(printable(f"{_named(name)}{reference.event_id}"))
    if reference.event is None:
        typer.echo(f"{_named('')}not found in the log")
        return
    event, contract = reference.event, reference.contract
    label = contract.label if contract else event.type
    says = payload(event, contract, show_pii=show_pii)
    line = printable(f"{_named('')}{clock(event.time)}  {label}  {entity(event, contract)}  {says}")
    typer.echo(line if len(line) <= _width() else f"{line[: _width() - 1]}…")


def _print_wrapped(first: str, text: str) -> None:
    """Prints text on as many lines as it needs, below each other."""
    words = printable(" ".join(text.split()))
    rest = " " * len(first)
    typer.echo(textwrap.fill(words, _width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False))


def _model(decision: "Decision") -> str:
    tokens = f"{decision.input_tokens} tokens in, {decision.output_tokens} out"
    used = tokens if decision.input_tokens or decision.output_tokens else ""
    return ", ".join(filter(None, (decision.model, used)))


def _named(name: str) -> str:
    return f"    {name}".ljust(_NAMES)


def _width() -> int:
    return min(console().width, _WIDTH)
