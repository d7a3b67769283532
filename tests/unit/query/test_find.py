from datetime import UTC, datetime, timedelta

import pytest

from mesh.contract.ids import new_id, output_id
from mesh.jetstream.scan import EVERYTHING
from mesh.query.find import _first_guess, _oldest

DERIVED = output_id("/agents/pricing", "1", "pricing", 0)
BEYOND_THE_CALENDAR = "ffffffff-ffff-7000-8000-000000000000"


def test_the_search_for_a_uuid7_begins_a_minute_before_it_was_made():
    start = _first_guess(new_id())

    assert abs(datetime.now(UTC) - timedelta(minutes=1) - start.time) < timedelta(seconds=30)


@pytest.mark.parametrize("event_id", [DERIVED, BEYOND_THE_CALENDAR, "an id of the caller"])
def test_the_search_for_an_id_that_tells_no_time_begins_an_hour_ago(event_id):
    start = _first_guess(event_id)

    assert abs(datetime.now(UTC) - timedelta(hours=1) - start.time) < timedelta(seconds=30)


def test_the_search_for_several_begins_with_the_oldest_or_with_everything():
    older, newer = "01a1fd09-7775-7f14-bf40-41cbf1ceabbb", new_id()

    assert _oldest([newer, older]) == _first_guess(older)
    assert _oldest([newer, older, DERIVED]) == EVERYTHING
