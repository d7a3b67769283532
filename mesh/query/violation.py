"""What holds in every sound log, and what an audit says where it does not."""

from dataclasses import dataclass
from enum import StrEnum


class Invariant(StrEnum):
    """What must not be found in a log."""

    DUPLICATE_ID = "duplicate_id"
    """Two events of one type and id in a stream."""
    ORPHAN_CAUSE = "orphan_cause"
    """An effect whose cause is not in the log, which reaches back to it."""
    DOUBLE_COMMIT = "double_commit"
    """Two commits of one agent for one input."""
    DECISION_GAP = "decision_gap"
    """A decision that does not override the one before on the same question and entity."""
    LOST_OUTPUT = "lost_output"
    """An output into another domain that is not there, although its input is settled."""
    SHARED_COMMAND = "shared_command"
    """A command that two agents handled."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A message that breaks an invariant.

    Attributes:
        invariant: Which one.
        place: Where the message lies, `<STREAM>:<sequence>`, as `mesh show` takes it.
        id: Its `ce-id`.
        finding: What is wrong, in one sentence.
    """

    invariant: Invariant
    place: str
    id: str
    finding: str
