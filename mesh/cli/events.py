"""Events for people: one per line, times, ages."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.output import console

if TYPE_CHECKING:
    from mesh.contract.namespace import Namespace
    from mesh.query.decoder import Decoder
    from mesh.query.record import Record

ShowPiiOption = Annotated[bool, typer.Option("--show-pii", help="Show personal data instead of ***.")]
"""The type of a command's parameter `show_pii: ShowPiiOption = False`."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def print_event(namespace: "Namespace", decoder: "Decoder", record: "Record", *, show_pii: bool) -> None:
    """Prints an event, a command or a dead letter on one line, which is cut where the terminal ends.

    The line holds: time, domain and name, entity, who emitted it, its place in the log, its payload.
    """
    from rich.text import Text

    from mesh.v1.log_pb2 import DeadLetter

    address = namespace.parse(record.subject)
    label, entity, payload = record.type or "?", decoder.entity(record), _payload(record, show_pii=show_pii)
    if address:
        label = f"{address.domain}.{address.name}"
    dead = record.message if isinstance(record.message, DeadLetter) else None
    if dead:
        entity, payload = dead.entity, f"dead letter of {dead.event_id}: {dead.code}: {dead.reason}"
    columns = [
        (clock(record.time), "dim"),
        (f"{label:<26}", "red" if dead else "bold"),
        (f"{entity:<16}", ""),
        (f"{record.agent or '-':<16}", "cyan"),
        (f"{record.stream}:{record.seq}", "dim"),
        (payload, "red" if dead else ""),
    ]
    line = Text("  ").join(Text(printable(text), style) for text, style in columns)
    console().print(line, no_wrap=True, overflow="ellipsis")


def printable(text: str) -> str:
    """Text on one line that cannot steer a terminal, whoever wrote it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def clock(time: datetime) -> str:
    """Local time; with the date when it is not today."""
    local = time.astimezone()
    day = "" if local.date() == datetime.now(UTC).astimezone().date() else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M:%S}.{local.microsecond // 1000:03}"


def age(time: datetime) -> str:
    """How long ago it was, in the largest unit that fits: `3m`."""
    seconds = max(int((datetime.now(UTC) - time).total_seconds()), 0)
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size or size == 1)
    return f"{seconds // size}{unit}"


def _payload(record: "Record", *, show_pii: bool) -> str:
    data = record.data(show_pii=show_pii)
    return f"unknown payload of {record.size} bytes" if data is None else json.dumps(data, ensure_ascii=False)
