"""What becomes of an event after a run of its handler: pure rules, no clock and no broker."""

import random
from dataclasses import dataclass

from mesh.agent.steps import EffectUnsettled
from mesh.errors import Reject, Retry, Unreachable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failed event waits before its next attempt: exponential, capped, with jitter.

    The jitter of ±20 % never makes a gap shorter than the one before it.

    Attributes:
        base: Seconds before the second attempt.
        maximum: Longest wait in seconds.
    """

    base: float = 1.0
    maximum: float = 300.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt`, counted from 1."""
        exact = self.base * 2.0 ** min(attempt - 1, 60)
        return min(exact * random.uniform(0.8, 1.2), self.maximum)  # noqa: S311 - jitter, not a secret


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
        case Reject() | EffectUnsettled():
            return GiveUp(error.code)
        case Retry():
            return TryAgain(error.after, counted=False)
        case Unreachable():
            # NATS was away: nothing is known about the handler.
            return TryAgain(policy.base, counted=False)
        case _ if attempt >= max_attempts:
            return GiveUp("handler_failed")
        case _:
            return TryAgain(policy.delay(attempt), counted=True)
