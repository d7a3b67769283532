"""From the rows of a CSV or JSON Lines file to messages, one at a time; a row that does not fit stops no other."""

import csv
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh.errors import MeshError, UsageError

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

    from mesh.contract.event_type import EventType

_MAX_FIELD = 1 << 20
_BOOLS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_TEXTUAL = frozenset(f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "FieldMask"))


@dataclass(frozen=True, slots=True)
class Row:
    """A row as a message.

    Attributes:
        line: Number of its first line in the file, from 1.
        id: Id of the event; None when the file gives none.
        message: The message; its constraints are not checked yet.
    """

    line: int
    id: str | None
    message: "Message"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that does not fit.

    Attributes:
        line: Number of its first line in the file, from 1.
        reason: Why.
    """

    line: int
    reason: str


def read_jsonl(lines: Iterable[str], kind: "EventType", id_member: str | None) -> Iterator[Row | Rejected]:
    """Reads one JSON object per line; empty lines count for nothing.

    Args:
        lines: The lines; bytes that are not UTF-8 as surrogate escapes.
        kind: What they hold.
        id_member: Member of the objects that is the id of the event; it need not be a field of the message.
    """
    from mesh.query.payload import parse_object, to_message

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _check_encoding(line)
            values = parse_object(line)
            event_id = None if id_member is None else _id(id_member, values.get(id_member))
            if id_member is not None and id_member not in kind.descriptor.fields_by_name:
                values.pop(id_member)
            yield Row(number, event_id, to_message(kind, values))
        except MeshError as error:
            yield Rejected(number, str(error))


class CsvRows:
    """The rows of a CSV file. Empty cells leave a field at its default; empty lines count for nothing.

    A key field that has no column takes the id of the event, so that every row is a story of its own.

    Args:
        lines: The lines with their ends; bytes that are not UTF-8 as surrogate escapes.
        kind: What they hold.
        columns: Names of the columns; None when the first row has them.
        mapping: Columns by field, for those whose names differ.
        id_column: Column that is the id of the event.

    Attributes:
        ignored: Columns that are not used.

    Raises:
        UsageError: The columns do not fit the type.
    """

    def __init__(
        self,
        lines: Iterable[str],
        kind: "EventType",
        *,
        columns: Sequence[str] | None = None,
        mapping: Mapping[str, str] | None = None,
        id_column: str | None = None,
    ) -> None:
        csv.field_size_limit(_MAX_FIELD)
        self._records = _records(lines)
        self._kind = kind
        self._columns = [name.strip() for name in (self._header() if columns is None else columns)]
        self._fields = _assign(kind, self._columns, mapping or {}, id_column)
        self._id = None if id_column is None else self._columns.index(id_column)
        used = {*self._fields.values(), self._id}
        self.ignored = [name for index, name in enumerate(self._columns) if name and index not in used]

    def __iter__(self) -> Iterator[Row | Rejected]:
        """The rows, in the order of the file."""
        for line, record in self._records:
            try:
                yield self._row(line, _sound(record))
            except MeshError as error:
                yield Rejected(line, str(error))

    def _header(self) -> list[str]:
        for _, record in self._records:
            return _sound(record)
        raise UsageError("the file is empty", code="empty_file", object="--csv", cure="name a file with a header row")

    def _row(self, line: int, cells: list[str]) -> Row:
        from mesh.contract.ids import new_id
        from mesh.query.payload import to_message

        if len(cells) != len(self._columns):
            raise _misfit(f"it has {len(cells)} columns instead of {len(self._columns)}")
        event_id = new_id() if self._id is None else _id(self._columns[self._id], cells[self._id])
        by_name = self._kind.descriptor.fields_by_name
        values = {
            field: _json_value(by_name[field], cells[index]) for field, index in self._fields.items() if cells[index]
        }
        if self._kind.key_field not in self._fields:
            values[self._kind.key_field] = event_id
        return Row(line, event_id, to_message(self._kind, values))


class _Lines:
    """Lines that can be given back.

    Attributes:
        number: Number of the line that was given out last.
        given: Lines given out since `mark`.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._returned: deque[str] = deque()
        self.number = 0
        self.given: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.number += 1
        self.given.append(line)
        return line

    def mark(self) -> None:
        self.given.clear()

    def rewind(self) -> None:
        """Takes back all lines since `mark` but the first."""
        self._returned.extendleft(reversed(self.given[1:]))
        self.number -= len(self.given) - 1


def _records(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """The records with the numbers of their first lines. Broken quoting costs the line it begins in, no other."""
    source = _Lines(lines)
    while True:
        source.mark()
        first = source.number + 1
        try:
            record = next(csv.reader(source, strict=True), None)
        except csv.Error as error:
            source.rewind()
            yield first, error
            continue
        if record is None:
            return
        if record:
            yield first, record


def _sound(record: list[str] | csv.Error) -> list[str]:
    if isinstance(record, csv.Error):
        raise _misfit(f"its quoting is broken: {record}")
    for cell in record:
        _check_encoding(cell)
    return record


def _check_encoding(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _misfit("it is not UTF-8") from None


def _id(name: str, value: object) -> str:
    if not isinstance(value, str | int) or value == "":
        raise _misfit(f"it has no {name}, which is the id of the event")
    return str(value)


def _misfit(reason: str) -> MeshError:
    return MeshError(reason, code="bad_row")


def _assign(
    kind: "EventType", columns: Sequence[str], mapping: Mapping[str, str], id_column: str | None
) -> dict[str, int]:
    """The number of the column of each field that has one."""
    fields = kind.descriptor.fields_by_name
    if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise UsageError(f"two columns are called {twice[0]}", object=twice[0], cure="name them with --columns")
    for field in mapping:
        if field not in fields:
            cure = f"its fields are {', '.join(fields)}"
            raise UsageError(f"{kind.full_name} has no field {field}", object="--map", cure=cure)
    for option, column in (("--id", id_column), *(("--map", column) for column in mapping.values())):
        if column is not None and column not in columns:
            cure = f"the columns are {', '.join(filter(None, columns))}"
            raise UsageError(f"there is no column {column}", object=option, cure=cure)
    assigned = {name: columns.index(name) for name in fields if name in columns}
    assigned |= {field: columns.index(column) for field, column in mapping.items()}
    if not assigned:
        raise UsageError(
            f"no column is a field of {kind.full_name}",
            object="--csv",
            cure="name the columns with --columns if the file has no header row, or map them with --map field=column",
        )
    key = fields[kind.key_field]
    if key.name not in assigned and id_column is None and key.type != key.TYPE_STRING:
        raise UsageError(
            f"no column is the key {key.name} of {kind.full_name}",
            object="--map",
            cure=f"name it: --map {key.name}=column",
        )
    return assigned


def _json_value(field: "FieldDescriptor", cell: str) -> Any:
    """A cell as the JSON value that the field takes; repeated fields and messages are written in JSON."""
    if field.is_repeated or (field.message_type and field.message_type.full_name not in _TEXTUAL):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            raise _misfit(f"{field.name} is not JSON") from None
    if field.type == field.TYPE_STRING:
        return cell
    if field.type != field.TYPE_BOOL:
        return cell.strip()
    if (value := _BOOLS.get(cell.strip().lower())) is None:
        raise _misfit(f"{field.name} is none of {', '.join(_BOOLS)}")
    return value
