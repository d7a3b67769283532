import io
import uuid

import pytest
from parcels.v1.events_pb2 import Dimensions, PalletMoved, ParcelWeighed, Size

from mesh.cli.rows import CsvRows, Rejected, Row, read_jsonl
from mesh.contract.generated import event_type
from mesh.errors import UsageError

WEIGHED = event_type(ParcelWeighed)
MOVED = event_type(PalletMoved)


def lines(text):
    """The lines of a file as they are read: ends kept, what is not UTF-8 escaped."""
    data = text if isinstance(text, bytes) else text.encode()
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="surrogateescape", newline="")


def read(text, kind=WEIGHED, **options):
    return list(CsvRows(lines(text), kind, **options))


def messages(text, kind=WEIGHED, **options):
    rows = read(text, kind, **options)
    assert not [row for row in rows if isinstance(row, Rejected)]
    return [row.message for row in rows]


def rejected(text, kind=WEIGHED, **options):
    return {row.line: row.reason for row in read(text, kind, **options) if isinstance(row, Rejected)}


def refusal(text, kind=WEIGHED, **options):
    with pytest.raises(UsageError) as caught:
        read(text, kind, **options)
    return str(caught.value)


def test_columns_map_to_fields_of_the_same_name_and_the_others_are_named():
    rows = CsvRows(lines("parcel_id,colour,shelf,\n7,red,3,\n"), WEIGHED)

    assert rows.ignored == ["colour"]
    assert [row.message for row in rows] == [ParcelWeighed(parcel_id="7", shelf=3)]


def test_a_file_without_a_header_row_takes_the_names_of_its_columns_from_the_caller():
    assert messages("7,3\n8,4\n", columns=["parcel_id", "shelf"]) == [
        ParcelWeighed(parcel_id="7", shelf=3),
        ParcelWeighed(parcel_id="8", shelf=4),
    ]


def test_a_mapped_column_wins_over_one_of_the_same_name():
    assert messages("shelf,floor\n1,2\n", mapping={"shelf": "floor"}, id_column="shelf") == [
        ParcelWeighed(parcel_id="1", shelf=2)
    ]


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        ("kilograms", "1.5", 1.5),
        ("kilograms", " 2 ", 2.0),
        ("shelf", "-9007199254740993", -9007199254740993),
        *(("fragile", text, True) for text in ("yes", "true", "1", "Yes", "TRUE", " yes ")),
        *(("fragile", text, False) for text in ("no", "false", "0", "No")),
        ("size", "SIZE_LARGE", Size.SIZE_LARGE),
        ("size", "1", Size.SIZE_SMALL),
        ("labels", '"[""a"",""b""]"', ["a", "b"]),
        ("dimensions", '"{""height"": 3}"', Dimensions(height=3)),
        ("seal", "AQI=", b"\x01\x02"),
        ("parcel_id", " 7 ", " 7 "),
        ("parcel_id", '"a ""b"", c\nd"', 'a "b", c\nd'),
        ("parcel_id", "Zürich", "Zürich"),
    ],
)
def test_a_cell_is_converted_to_the_type_of_its_field(field, cell, value):
    (message,) = messages(f"{field},note\n{cell},x\n")

    assert getattr(message, field) == value


def test_a_timestamp_is_written_as_rfc_3339():
    (message,) = messages("weighed\n2026-11-21T06:00:00+01:00\n")

    assert message.weighed.ToJsonString() == "2026-11-21T05:00:00Z"


def test_an_empty_cell_leaves_its_field_at_the_default():
    (message,) = messages("parcel_id,kilograms,fragile,size,weighed,labels\n7,,,,,\n")

    assert message == ParcelWeighed(parcel_id="7")


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ("shelf", "3.5", "shelf"),
        ("shelf", "99999999999999999999", "shelf"),
        ("kilograms", "heavy", "kilograms"),
        ("fragile", "maybe", "fragile is none of yes, true, 1, no, false, 0"),
        ("size", "HUGE", "size"),
        ("weighed", "yesterday", "weighed"),
        ("labels", "a;b", "labels is not JSON"),
        ("dimensions", '"{""width"": 3}"', "width"),
    ],
)
def test_a_cell_that_does_not_fit_its_field_rejects_its_row_and_no_other(field, cell, reason):
    text = f"parcel_id,{field}\n6,\n7,{cell}\n8,\n"

    assert [row.line for row in read(text) if isinstance(row, Row)] == [2, 4]
    assert reason in rejected(text)[3]


def test_a_row_is_numbered_by_its_first_line():
    text = 'parcel_id,shelf\n\n"a\nb\nc",1\n8,x\r\n\r\n9,1,1\n'

    assert [row.line for row in read(text)] == [3, 6, 8]
    assert sorted(rejected(text)) == [6, 8]


def test_a_row_with_the_wrong_number_of_columns_is_rejected():
    assert rejected("parcel_id,shelf\n7\n8,1,2\n") == {
        2: "it has 1 columns instead of 2",
        3: "it has 3 columns instead of 2",
    }


def test_broken_quoting_costs_the_line_it_begins_in_and_no_other():
    text = 'parcel_id,shelf\n"6"x,1\n"7,2\n8,3\n"9\n10",4\n11,5\n'

    assert sorted(rejected(text)) == [2, 3]
    assert [row.message.shelf for row in read(text) if isinstance(row, Row)] == [3, 4, 5]


def test_a_quote_that_is_never_closed_costs_its_line_and_no_other():
    text = 'parcel_id,shelf\n6,1\n"7,2\n8,3\n9,4'

    assert list(rejected(text)) == [3]
    assert [row.message.shelf for row in read(text) if isinstance(row, Row)] == [1, 3, 4]


def test_a_row_that_is_not_utf_8_is_rejected_and_no_other():
    text = b"\xef\xbb\xbfparcel_id,shelf\n\xfc,1\n8,2\n"

    assert rejected(text) == {2: "it is not UTF-8"}
    assert [row.message.parcel_id for row in read(text) if isinstance(row, Row)] == ["8"]


def test_the_id_of_an_event_comes_from_its_column():
    assert [row.id for row in read("parcel_id,number\n7,n1\n8,n2\n", id_column="number")] == ["n1", "n2"]


def test_a_row_without_an_id_is_rejected_when_ids_come_from_a_column():
    assert rejected("parcel_id,number\n7,\n", id_column="number") == {
        2: "it has no number, which is the id of the event"
    }


def test_a_key_that_no_column_gives_is_the_id_of_the_event():
    rows = read("shelf\n1\n1\n")

    assert [row.message.parcel_id for row in rows] == [row.id for row in rows]
    assert len({row.id for row in rows}) == 2
    assert {uuid.UUID(row.id).version for row in rows} == {7}


def test_a_numeric_key_can_come_from_the_column_of_the_id():
    assert messages("dock,number\na,12\n", MOVED, id_column="number") == [PalletMoved(pallet_number=12, dock="a")]


def test_a_numeric_key_needs_a_column():
    assert "--map pallet_number=column" in refusal("dock\na\n", MOVED)


def test_a_header_row_is_missed():
    assert "--columns" in refusal("7,red\n8,blue\n")


def test_a_mapped_field_must_exist():
    assert "has no field weight: its fields are parcel_id" in refusal("a,b\n", mapping={"weight": "a"})


@pytest.mark.parametrize("options", [{"mapping": {"shelf": "c"}}, {"id_column": "c"}])
def test_a_named_column_must_exist(options):
    assert "there is no column c: the columns are a, b" in refusal("a,b\n", **options)


def test_two_columns_of_the_same_name_are_refused():
    assert "two columns are called shelf" in refusal("shelf,shelf\n")


def test_a_file_with_nothing_in_it_has_no_header_row():
    assert "the file is empty" in refusal("")


def jsonl(text, id_member=None):
    return list(read_jsonl(lines(text), WEIGHED, id_member))


def test_each_line_of_a_json_lines_file_is_a_message():
    rows = jsonl('{"parcel_id": "7", "shelf": 1}\n\n{"parcelId": "8", "labels": ["a"]}\r\n')

    assert [(row.line, row.id, row.message) for row in rows] == [
        (1, None, ParcelWeighed(parcel_id="7", shelf=1)),
        (3, None, ParcelWeighed(parcel_id="8", labels=["a"])),
    ]


def test_the_id_may_be_a_member_that_is_no_field():
    (row,) = jsonl('{"parcel_id": "7", "number": 12}\n', "number")

    assert (row.id, row.message) == ("12", ParcelWeighed(parcel_id="7"))


def test_the_id_may_be_a_field():
    (row,) = jsonl('{"parcel_id": "7"}\n', "parcel_id")

    assert (row.id, row.message) == ("7", ParcelWeighed(parcel_id="7"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "this is not JSON"),
        ("[" * 100_000, "this is not JSON"),
        ("[1]", "a payload is a JSON object, not a list"),
        ('{"colour": "red"}', "parcels.v1.ParcelWeighed has no field colour"),
        ('{"shelf": "x"}', "shelf"),
        ('{"parcel_id": "\\ud800"}', "does not take these values"),
        (b'{"parcel_id": "\xff"}', "it is not UTF-8"),
    ],
)
def test_a_line_that_does_not_fit_is_rejected_and_no_other(line, reason):
    data = line if isinstance(line, bytes) else line.encode()

    rows = jsonl(data + b'\n{"shelf": 1}\n')

    assert isinstance(rows[0], Rejected)
    assert reason in rows[0].reason
    assert rows[1].message == ParcelWeighed(shelf=1)


def test_a_line_without_the_id_is_rejected():
    assert jsonl('{"parcel_id": "7"}', "number") == [Rejected(1, "it has no number, which is the id of the event")]
