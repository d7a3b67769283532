"""What becomes of an event after a run of its handler: pure rules, no clock and no broker."""

import random
from dataclasses import dataclass

from mesh.errors import ContractError, Reject, Retry, Unreachable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failed event waits before its next attempt: exponential, capped, with jitter.

    The jitter of ±20 % never makes a gap shorter than the one before it.

    Attributes:
        base: Seconds before the second attempt.
        maximum: Longest wait in seconds, before jitter.
    """

    base: float = 1.0
    maximum: float = 300.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt`, counted from 1."""
        exact = min(self.base * 2.0 ** min(attempt - 1, 60), self.maximum)
        return exact * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Deliver again after `delay` seconds; `counted` when this was a failed attempt."""

    delay: float
    counted: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make it a dead letter, for the reason `code`."""

    code: str


def settle(error: Exception, *, attempt: int, max_attempts: int, policy: RetryPolicy) -> TryAgain | GiveUp:
    """What becomes of an event whose handling raised `error` in attempt number `attempt`, counted from 1."""
    match error:
        case Reject():
            return GiveUp("rejected")
        case Retry():
            return TryAgain(error.after, counted=False)
        case Unreachable():
            # NATS was away: nothing is known about the handler.
            return TryAgain(policy.base, counted=False)
        case _ if attempt >= max_attempts:
            return GiveUp(error.code if isinstance(error, ContractError) else "handler_failed")
        case _:
            return TryAgain(policy.delay(attempt), counted=True)
