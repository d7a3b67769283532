from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.agent.settlement import GiveUp, RetryPolicy, TryAgain, settle
from mesh.errors import Conflict, ContractError, NotFound, Refused, Reject, Retry, Unreachable, UsageError

POLICIES = st.builds(RetryPolicy, base=st.floats(0.001, 1000), maximum=st.floats(0.001, 10_000))
ERRORS = st.one_of(
    st.sampled_from([ValueError("odd"), KeyError(1), TimeoutError(), ExceptionGroup("two", [OSError(), OSError()])]),
    st.sampled_from([ContractError("bad", code="invalid"), UsageError("no"), NotFound("none"), Unreachable("away")]),
    st.sampled_from([Refused("no"), Conflict("changed"), Reject("never")]),
    st.builds(Retry, after=st.floats(0, 1e6) | st.timedeltas(timedelta(0))),
)


@given(POLICIES)
def test_the_wait_before_the_next_attempt_never_shrinks_and_has_a_limit(policy):
    waits = [policy.delay(attempt) for attempt in (*range(1, 40), 10**6)]

    assert waits == sorted(waits)
    assert waits[0] > 0
    assert waits[-1] == policy.maximum


@given(st.integers(1, 8))
def test_the_wait_doubles_with_each_attempt_give_or_take_a_fifth(attempt):
    assert 0.8 <= RetryPolicy(base=1, maximum=1000).delay(attempt) / 2 ** (attempt - 1) <= 1.2


@given(ERRORS, st.integers(1, 20), st.integers(1, 20), POLICIES)
def test_every_error_ends_an_attempt_one_way_or_the_other(error, attempt, max_attempts, policy):
    match settle(error, attempt=attempt, max_attempts=max_attempts, policy=policy):
        case TryAgain(delay, counted):
            assert delay >= 0
            assert not counted or attempt < max_attempts
        case GiveUp(code):
            assert code
            assert isinstance(error, Reject) or attempt >= max_attempts


def ending(error, attempt=1):
    return settle(error, attempt=attempt, max_attempts=5, policy=RetryPolicy(base=2))


def test_a_rejected_event_is_given_up_at_once():
    assert ending(Reject("too old")) == GiveUp("rejected")


@pytest.mark.parametrize("after", [90, 90.0, timedelta(minutes=1, seconds=30)])
@pytest.mark.parametrize("attempt", [1, 5, 100])
def test_retry_waits_as_long_as_it_says_and_never_counts(after, attempt):
    assert ending(Retry("not yet", after=after), attempt) == TryAgain(90.0, counted=False)


@pytest.mark.parametrize("attempt", [1, 5])
def test_an_unreachable_server_is_not_the_fault_of_the_handler(attempt):
    assert ending(Unreachable("away"), attempt) == TryAgain(2, counted=False)


def test_the_last_attempt_gives_up_with_a_code():
    assert ending(ValueError("odd"), attempt=5) == GiveUp("handler_failed")
    assert ending(ContractError("bad", code="invalid"), attempt=5) == GiveUp("handler_failed")


def test_an_earlier_attempt_counts_and_waits():
    found = ending(ValueError("odd"), attempt=4)

    assert found.counted
    assert 12.8 <= found.delay <= 19.2
