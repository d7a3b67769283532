"""Every error of mesh: a sentence, a code, the object it is about and the cure.

MeshError
├── UsageError          a call, a setting or a command line that cannot work
├── ContractError       a .proto file or a message that breaks the contract
├── Unreachable         NATS does not answer
├── NotFound            what was asked for does not exist
├── Refused             the server or the mesh refused a request
│   └── Conflict        somebody else changed what this write depends on
├── Reject              raised by a handler: dead-letter the event now
└── Retry               raised by a handler: deliver the event again later
"""

from datetime import timedelta


class MeshError(Exception):
    """Base of every error that mesh raises.

    Attributes:
        code: Stable, machine-readable name of the kind of error, in snake_case.
        object: What the error is about: a file, a subject, a message type, an option.
        cure: What to do about it, as an imperative sentence; empty when there is nothing to advise.
    """

    def __init__(self, message: str, *, code: str, object: str = "", cure: str = "") -> None:  # noqa: A002 - the word of the JSON error
        super().__init__(message)
        self.code = code
        self.object = object
        self.cure = cure

    def __str__(self) -> str:
        """The sentence, followed by the cure."""
        message = super().__str__()
        return f"{message}: {self.cure}" if self.cure else message


class UsageError(MeshError):
    """A call, a setting or a command line that cannot work, whatever the state of the mesh."""

    def __init__(self, message: str, *, code: str = "usage", object: str = "", cure: str = "") -> None:  # noqa: A002
        super().__init__(message, code=code, object=object, cure=cure)


class ContractError(MeshError):
    """A `.proto` file, or a message, that breaks the contract."""


class Unreachable(MeshError):
    """NATS does not answer. Nothing is known about what was asked for; asking again is safe."""

    def __init__(self, message: str, *, code: str = "unreachable", object: str = "", cure: str = "") -> None:  # noqa: A002
        super().__init__(message, code=code, object=object, cure=cure)


class NotFound(MeshError):
    """What was asked for does not exist."""

    def __init__(self, message: str, *, code: str = "not_found", object: str = "", cure: str = "") -> None:  # noqa: A002
        super().__init__(message, code=code, object=object, cure=cure)


class Refused(MeshError):
    """The server, or the mesh itself, refused a request; sending the same again will be refused again.

    Attributes:
        server_code: JetStream's `err_code`, 0 when the refusal did not come from the server.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "refused",
        object: str = "",  # noqa: A002
        cure: str = "",
        server_code: int = 0,
    ) -> None:
        super().__init__(message, code=code, object=object, cure=cure)
        self.server_code = server_code


class Conflict(Refused):
    """Somebody else changed what this write depends on: read again and decide again."""


class Reject(MeshError):
    """Raised by a handler that can never handle this event: it becomes a dead letter at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, code="rejected")


class Retry(MeshError):
    """Raised by a handler that cannot handle this event yet.

    The event is delivered again after `after`; this does not count as a failed attempt.

    Args:
        after: Seconds, or a `timedelta`, until the next delivery.
        reason: What is being waited for.
    """

    def __init__(self, reason: str = "asked to be called again", *, after: float | timedelta) -> None:
        super().__init__(reason, code="retry")
        self.after = after.total_seconds() if isinstance(after, timedelta) else float(after)
