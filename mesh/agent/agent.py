"""The agent: a named set of handlers."""

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Generic, overload

from google.protobuf.message import Message

from mesh.agent.context import Context, R
from mesh.agent.deliver import Deliver, Start, parse_deliver
from mesh.agent.handler import Handler, HandlerFunction, Outputs, read_handler
from mesh.errors import UsageError

type CallNext = Callable[[Message, Context[Any]], Awaitable[Outputs]]
"""The rest of the chain: the next middleware, in the end the handler."""

type Middleware = Callable[[CallNext, Message, Context[Any]], Awaitable[Outputs]]
"""`async def (call_next, event, ctx) -> outputs`, wrapped around every handler of an agent."""

_NAME = re.compile(r"[a-z](?!.*--)[a-z0-9-]{0,40}")


class Agent(Generic[R]):  # noqa: UP046 - a default for R needs typing_extensions before Python 3.13
    """A named set of handlers. Its replicas share its durable consumers.

    Declaring an agent connects to nothing: `mesh run module:agent` does.

    Args:
        name: `[a-z][a-z0-9-]{0,40}`, without `--`. It names the durable consumers and the source of all outputs.
        description: One sentence for `mesh agents` and the graph.
        version: Version of the agent's code, shown beside its name.
        deliver: Where the agent starts to read when it is deployed for the first time.
        lifespan: `async with lifespan(agent) as resources` surrounds the life of the process; what it yields is
            `ctx.resources`.

    Raises:
        UsageError: The name, or `deliver`, is not legal.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        version: str = "",
        deliver: Deliver = "all",
        lifespan: Callable[["Agent[R]"], AbstractAsyncContextManager[R]] | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"agent name {name!r} is not legal",
                code="bad_agent_name",
                object=name,
                cure="use a lower-case letter followed by at most 40 letters, digits or single dashes",
            )
        self.name = name
        self.description = description
        self.version = version
        self.start: Start = parse_deliver(deliver)
        self.lifespan = lifespan
        self.middlewares: list[Middleware] = []
        self._handlers: dict[str, Handler] = {}

    def __repr__(self) -> str:
        """The agent with what it handles."""
        return f"Agent({self.name!r}, handles={[handler.event.label for handler in self.handlers]})"

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """The handlers in the order of their declaration."""
        return tuple(self._handlers.values())

    @overload
    def on[F: HandlerFunction](
        self,
        event: type[Message] | None = None,
        /,
        *,
        emits: Iterable[type[Message]] = (),
        concurrency: int = 32,
        timeout: float | timedelta = 30,
        max_attempts: int = 5,
        isolated: bool = False,
        deliver: Deliver | None = None,
    ) -> Callable[[F], F]: ...

    @overload
    def on[F: HandlerFunction](self, event: F, /) -> F: ...

    def on(
        self,
        event: Any = None,
        /,
        *,
        emits: Iterable[type[Message]] = (),
        concurrency: int = 32,
        timeout: float | timedelta = 30,
        max_attempts: int = 5,
        isolated: bool = False,
        deliver: Deliver | None = None,
    ) -> Any:
        """Declares a handler; the decorated function itself is unchanged.

        Args:
            event: The message class handled, when the annotation of the first parameter does not say it.
            emits: Message classes that may be emitted, in addition to those of the return annotation.
            concurrency: How many events are handled at the same time in one process.
            timeout: Seconds (or a `timedelta`) after which a run is cancelled and counts as failed.
            max_attempts: Failed attempts after which an event becomes a dead letter.
            isolated: Give the handler a durable consumer of its own, so that it never waits for the others.
            deliver: Where the handler starts to read, when it differs from the agent; implies a durable of its own.

        Raises:
            UsageError: The signature or an option cannot work, or the agent handles this event already.
            ContractError: A message in the signature breaks the contract.
        """

        def declare(function: HandlerFunction) -> HandlerFunction:
            self._add(
                read_handler(
                    function,
                    event=message,
                    emits=emits,
                    concurrency=concurrency,
                    timeout=timeout,
                    max_attempts=max_attempts,
                    isolated=isolated,
                    start=None if deliver is None else parse_deliver(deliver),
                )
            )
            return function

        if event is None or (isinstance(event, type) and issubclass(event, Message)):
            message = event
            return declare
        message = None
        return declare(event)

    def middleware(self, function: Middleware) -> Middleware:
        """Wraps every handler of the agent; the first middleware added is the outermost."""
        self.middlewares.append(function)
        return function

    def _add(self, handler: Handler) -> None:
        if handler.event.full_name in self._handlers:
            raise UsageError(
                f"agent {self.name} has two handlers for {handler.event.full_name}",
                code="handler_twice",
                object=self.name,
                cure="keep one of them, or declare a second agent",
            )
        self._handlers[handler.event.full_name] = handler
