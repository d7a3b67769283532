"""Flows for people: one as a tree, many as totals."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from statistics import median, quantiles
from typing import TYPE_CHECKING

import typer

from mesh.cli.events import printable
from mesh.cli.output import print_table

if TYPE_CHECKING:
    from mesh.contract.catalog import Catalog
    from mesh.query.flow import Flow, Step
    from mesh.query.record import Record

_WIDTH = 46  # of a payload; the whole table then fits into 100 columns
_OUTSIDE = "you"  # who emitted what no agent emitted
_STATE_ONLY = "(state)"  # a handling that changed state and emitted nothing


def print_flow(flow: "Flow", catalog: "Catalog") -> None:
    """Prints a flow as a tree, each cause above its effects, personal data masked."""
    root = flow.roots[0].record
    typer.echo(f"\n{type_name(root)} {root.key} and what followed (hop: from the stored cause to the stored effect)\n")
    print_table(
        ["  at ms", " hop ms", "event", "by", "says"],
        (row for step in flow.roots for row in _rows(step, root, catalog)),
    )


def print_totals(flows: Iterable["Flow"]) -> None:
    """Prints who handled and emitted how much, and how quickly, counted from the log."""
    steps = [step for flow in flows for step in flow.walk()]
    events = [step.record for step in steps if step.kind in ("evt", "cmd")]
    emitted: dict[str, Counter[str]] = defaultdict(Counter)
    handled: dict[str, set[str]] = defaultdict(set)
    for event in events:
        emitted[event.agent or _OUTSIDE][type_name(event)] += 1
    for step in steps:
        if step.record.agent and step.kind != "dead":
            handled[step.record.agent].add(step.record.causation_id)
    typer.echo()
    print_table(
        ["by", "handled", "events in the log"],
        (
            [who, f"{len(handled[who]) or '':>7}", ", ".join(f"{name} {count}" for name, count in emitted[who].items())]
            for who in [*(emitted | handled)]
        ),
    )
    times = [event.time for event in events]
    seconds = (max(times) - min(times)).total_seconds()
    duplicates = len(events) - len({(event.type, event.id) for event in events})
    dead_letters = sum(step.kind == "dead" for step in steps)
    typer.echo(f"\n{len(events)} events in {seconds:.2f} s: {len(events) / seconds:.0f} per second")
    typer.echo(f"duplicates {duplicates}, dead letters {dead_letters}")
    hops = [step.latency.total_seconds() for step in steps if step.latency is not None]
    if len(hops) > 1:
        typer.echo(f"hop: median {_ms(median(hops))} ms, p99 {_ms(quantiles(hops, n=100, method='inclusive')[-1])} ms")


def type_name(record: "Record") -> str:
    """Name of a message without its package."""
    return record.type.rpartition(".")[2]


def _rows(step: "Step", root: "Record", catalog: "Catalog", first: str = "", rest: str = "") -> Iterator[list[str]]:
    """Rows of a step and of all that follows from it.

    Args:
        step: The step.
        root: Where the time starts.
        catalog: The contracts.
        first: What the tree draws left of the step.
        rest: What it draws left of its effects.
    """
    record = step.record
    at = _ms((record.time - root.time).total_seconds())
    hop = "" if step.latency is None else _ms(step.latency.total_seconds())
    name = _STATE_ONLY if step.kind == "done" else type_name(record)
    yield [f"{at:>7}", f"{hop:>7}", first + name, record.agent or _OUTSIDE, _says(record, catalog)]
    answered = {effect.record.agent for effect in step.effects if effect.kind != "done"}
    effects = [effect for effect in step.effects if effect.kind != "done" or effect.record.agent not in answered]
    for effect in effects:
        corner, line = ("└ ", "  ") if effect is effects[-1] else ("├ ", "│ ")
        yield from _rows(effect, root, catalog, rest + corner, rest + line)


def _says(record: "Record", catalog: "Catalog") -> str:
    """The payload without its key, on one line."""
    known = catalog.get(record.type)
    fields = {name: value for name, value in (record.data() or {}).items() if not known or name != known.key_field}
    text = printable(" ".join(f"{name}={_text(value)}" for name, value in fields.items()))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _text(value: object) -> str:
    match value:
        case dict():
            return " ".join(map(_text, value.values()))
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case float():
            return f"{value:.3g}"
    return str(value)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
