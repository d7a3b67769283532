"""How a command ended, for scripts."""

from enum import IntEnum

from mesh.errors import MeshError, Unreachable, UsageError


class ExitCode(IntEnum):
    """Exit codes of `mesh`."""

    OK = 0
    FAILED = 1
    """What was asked for failed or does not exist, or an audit found something."""
    USAGE = 2
    UNREACHABLE = 3
    """NATS cannot be reached."""
    INTERRUPTED = 130
    """As a shell reports a process that Ctrl-C ended."""


def exit_code(error: MeshError) -> ExitCode:
    """The exit code of a command that raised an error."""
    match error:
        case UsageError():
            return ExitCode.USAGE
        case Unreachable():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.FAILED
