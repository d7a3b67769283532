"""A handler and what its signature says."""

import inspect
import math
import types
import typing
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeGuard

from google.protobuf.message import Message

from mesh.agent.deliver import Start
from mesh.contract.event_type import EventType, Kind
from mesh.contract.generated import event_type
from mesh.errors import UsageError

type Outputs = Message | Iterable[Message] | None
"""What a handler may return."""

type HandlerFunction = Callable[..., Outputs | Awaitable[Outputs]]
"""`async def (event, ctx) -> outputs`; a plain function runs in a thread."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A function of an agent that handles one event or command type.

    Attributes:
        function: The author's function.
        event: The type it handles.
        emits: The types it may emit.
        concurrency: How many events it handles at the same time in one process.
        timeout: Seconds after which a run is cancelled and counts as failed.
        max_attempts: Failed attempts after which an event becomes a dead letter.
        isolated: It has a durable consumer of its own.
        start: Where its own durable starts to read; None when the agent decides.
    """

    function: HandlerFunction
    event: EventType
    emits: tuple[EventType, ...]
    concurrency: int
    timeout: float
    max_attempts: int
    isolated: bool = False
    start: Start | None = None

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def has_own_durable(self) -> bool:
        """Whether its durable consumer is `<agent>--<event>` rather than the agent's."""
        return self.isolated or self.start is not None


def read_handler(
    function: HandlerFunction,
    *,
    event: type[Message] | None,
    emits: Iterable[type[Message]],
    concurrency: int,
    timeout: float | timedelta,
    max_attempts: int,
    isolated: bool,
    start: Start | None,
) -> Handler:
    """Makes a handler of a function and the options of its decorator.

    Raises:
        UsageError: The signature or an option cannot work.
        ContractError: A message in the signature breaks the contract.
    """
    name = getattr(function, "__qualname__", repr(function))
    parameters = _positional(function, name)
    if inspect.isasyncgenfunction(function):
        raise UsageError(
            f"handler {name} yields its outputs",
            code="handler_signature",
            object=name,
            cure="return them in a list, or pass each to ctx.emit",
        )
    hints = _hints(function, name)
    consumed = event or hints.get(parameters[0])
    if not _is_message(consumed):
        raise UsageError(
            f"handler {name} does not say which event it handles",
            code="handler_signature",
            object=name,
            cure="annotate its first parameter with a message class, e.g. event: LeadCaptured",
        )
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    for option, value in (("concurrency", concurrency), ("timeout", seconds), ("max_attempts", max_attempts)):
        if not 0 < value < math.inf:
            raise UsageError(
                f"{option}={value} of handler {name} is not a positive number", object=option, cure="use 1 or more"
            )
    if not isinstance(emits, Iterable):
        raise UsageError(f"emits of handler {name} is not a list", object="emits", cure="write emits=[…]")
    found = event_type(consumed)
    if found.kind is Kind.STATE:
        raise UsageError(
            f"handler {name} handles {found.full_name}, which is state",
            code="handler_signature",
            object=name,
            cure="handle an event or a command; read state with ctx.state.get",
        )
    declared = [m for annotation in (hints.get("return"), *emits) for m in _messages(annotation, name)]
    outputs = tuple(dict.fromkeys(event_type(message) for message in declared))
    for output in outputs:
        if output.kind is Kind.STATE:
            raise UsageError(
                f"handler {name} returns {output.full_name}, which is state",
                code="handler_signature",
                object=name,
                cure="write state with ctx.state.put",
            )
    return Handler(function, found, outputs, concurrency, float(seconds), max_attempts, isolated, start)


def _positional(function: HandlerFunction, name: str) -> list[str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []  # it cannot be called, or not be looked into
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(positional) < 2 or len(required) > 2:  # noqa: PLR2004 - event and context
        raise UsageError(
            f"handler {name} must take an event and a context",
            code="handler_signature",
            object=name,
            cure=f"write async def {name}(event: LeadCaptured, ctx: Context)",
        )
    return positional


def _hints(function: HandlerFunction, name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (AttributeError, NameError, SyntaxError, TypeError) as error:
        raise UsageError(
            f"an annotation of handler {name} cannot be resolved: {error}",
            code="handler_signature",
            object=name,
            cure="import the name at module level, outside `if TYPE_CHECKING`",
        ) from error


def _messages(annotation: Any, name: str) -> list[type[Message]]:
    if annotation is None or annotation in (type(None), Ellipsis):
        return []
    if _is_message(annotation):
        return [annotation]
    if isinstance(annotation, typing.TypeAliasType):
        return _messages(annotation.__value__, name)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType) or (isinstance(origin, type) and issubclass(origin, Iterable)):
        return [message for part in typing.get_args(annotation) for message in _messages(part, name)]
    raise UsageError(
        f"handler {name} cannot emit {annotation!r}",
        code="handler_signature",
        object=name,
        cure="declare one message class, several in a list or tuple, or None",
    )


def _is_message(annotation: Any) -> TypeGuard[type[Message]]:
    return isinstance(annotation, type) and issubclass(annotation, Message) and annotation is not Message
