from datetime import UTC, datetime, timedelta

import pytest

from mesh.cli.events import age, clock, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lead/42 – Zürich 東京", "lead/42 – Zürich 東京"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r\x07", "two\\nlines\\r\\x07"),
        ("\x9b31m\u202eright to left", "\\x9b31m\\u202eright to left"),
    ],
)
def test_what_somebody_wrote_cannot_steer_the_terminal(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("past", "shown"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(seconds=150), "2m"),
        (timedelta(hours=5), "5h"),
        (timedelta(days=40), "40d"),
        (timedelta(days=-1), "0s"),
    ],
)
def test_an_age_is_told_in_the_largest_unit_that_fits(past, shown):
    assert age(datetime.now(UTC) - past) == shown


def test_the_date_is_shown_unless_it_is_today():
    now = datetime.now(UTC)
    past = datetime(2025, 3, 1, 12, 30, 15, 7000, tzinfo=UTC)

    assert clock(now) == f"{now.astimezone():%H:%M:%S}.{now.microsecond // 1000:03}"
    assert clock(past) == f"{past.astimezone():%Y-%m-%d %H:%M:%S}.007"
