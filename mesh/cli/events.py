"""Events for people: one per line, times, ages."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.output import console

if TYPE_CHECKING:
    from mesh.contract.event_type import EventType
    from mesh.contract.namespace import Namespace
    from mesh.query.decoder import Decoder
    from mesh.query.record import Record

ShowPiiOption = Annotated[bool, typer.Option("--show-pii", help="Show personal data instead of ***.")]
"""The type of a command's parameter `show_pii: ShowPiiOption = False`."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def print_event(namespace: "Namespace", decoder: "Decoder", record: "Record", *, show_pii: bool) -> None:
    """Prints an event, a command or a dead letter on one line, which is cut where the terminal ends.

    The line holds: time, domain and name, entity, who emitted it, its place in the log, its payload without the key.
    """
    from mesh.v1.log_pb2 import DeadLetter

    address, contract = namespace.parse(record.subject), decoder.contract(record)
    label = f"{address.domain}.{address.name}" if address else record.subject
    if isinstance(record.message, DeadLetter):
        letter = record.message
        about, style = letter.entity, "red"
        says = f"dead letter of {letter.event_id}: {letter.code}: {letter.reason}"
    else:
        about, style = entity(record, contract), ""
        says = payload(record, contract, show_pii=show_pii)
    columns = [
        (clock(record.time), "dim"),
        (f"{label:<22}", style or "bold"),
        (f"{about:<12}", style),
        (f"{record.agent or '-':<12}", "cyan"),
        (f"{record.stream}:{record.seq}", "dim"),
        (says, style),
    ]
    print_line(columns)


def print_line(columns: Iterable[tuple[str, str]]) -> None:
    """Prints texts, each with its style, on one line, which is cut where the terminal ends."""
    from rich.text import Text

    line = Text("  ").join(Text(printable(text), style) for text, style in columns)
    console().print(line, no_wrap=True, overflow="ellipsis")


def entity(record: "Record", contract: "EventType | None") -> str:
    """The entity a record is about, `lead/42`; its key alone where the contract is not known."""
    return f"{contract.entity_type}/{record.key}" if contract else record.key


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


def payload(record: "Record", contract: "EventType | None", *, show_pii: bool) -> str:
    """What a record says, on one line: its payload without the key, or why there is none."""
    if record.deleted:
        return "deleted"
    data = record.data(show_pii=show_pii)
    if data is None:
        return f"{record.type or 'unknown type'}, {record.size} bytes that do not decode"
    shown = {name: value for name, value in data.items() if not contract or name != contract.key_field}
    return json.dumps(shown, ensure_ascii=False)
