"""Where a new durable consumer starts to read."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from mesh.errors import UsageError

type Deliver = str | datetime | timedelta
"""`"all"`: everything the stream still holds. `"new"`: what is published from now on.

`"since:<time>"`, a `datetime` or a `timedelta` (how far back): everything from that time on. A `<time>` is RFC 3339,
`2026-11-01T00:00:00Z`, or an age such as `90s`, `15m`, `24h`, `7d`.
"""

_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a consumer.

    Attributes:
        policy: JetStream's `deliver_policy`.
        time: The time to start from, for `by_start_time`.
    """

    policy: Literal["all", "new", "by_start_time"]
    time: datetime | None = None


def parse_deliver(deliver: Deliver) -> Start:
    """Reads the `deliver` argument of an agent or a handler.

    Raises:
        UsageError: It is none of the allowed forms.
    """
    if deliver == "all":
        return Start("all")
    if deliver == "new":
        return Start("new")
    if isinstance(deliver, str) and deliver.startswith("since:"):
        return Start("by_start_time", parse_since(deliver.removeprefix("since:")))
    if isinstance(deliver, timedelta):
        return Start("by_start_time", datetime.now(UTC) - deliver)
    if isinstance(deliver, datetime):
        return Start("by_start_time", deliver.astimezone(UTC))
    raise UsageError(
        f"deliver={deliver!r} is not a start",
        code="bad_deliver",
        object="deliver",
        cure='use "all", "new", "since:24h", "since:2026-11-01T00:00:00Z", a datetime or a timedelta',
    )


def parse_since(text: str) -> datetime:
    """A point in the past, written as RFC 3339 time or as an age (`90s`, `15m`, `24h`, `7d`).

    Raises:
        UsageError: It is neither.
    """
    try:
        if age := _AGE.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is neither a time nor an age",
            code="bad_time",
            object=text,
            cure="write 2026-11-01T00:00:00Z, or 90s, 15m, 24h, 7d",
        ) from None
