"""One run of a handler: middleware, timeout, outputs."""

import asyncio
import contextvars
from concurrent.futures import Executor
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message

from mesh.agent.agent import CallNext, Middleware
from mesh.agent.context import Context
from mesh.agent.handler import Handler, Outputs
from mesh.errors import MeshError


class HandlerTimeout(MeshError):
    """A handler took longer than its timeout."""


class HandlerCancelled(MeshError):
    """A handler let a cancellation out that was not meant for it."""


def compose(handler: Handler, middlewares: list[Middleware], threads: Executor) -> CallNext:
    """The chain around a handler; the first middleware is the outermost."""
    call: CallNext = cast(CallNext, handler.function) if handler.is_async else partial(_in_thread, handler, threads)
    for middleware in reversed(middlewares):
        call = partial(middleware, call)
    return call


async def run(call: CallNext, handler: Handler, event: Message, ctx: Context[Any]) -> None:
    """Runs a handler to its end and collects its outputs in the context.

    Raises:
        HandlerTimeout: It took longer than its timeout.
        HandlerCancelled: It waited for something that was cancelled.
        Exception: Whatever the handler raised.
    """
    limit, name = asyncio.timeout(handler.timeout), handler.event.full_name
    try:
        async with limit:
            ctx.emit_all(await call(event, ctx))
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise HandlerTimeout(
            f"the handler of {name} in agent {ctx.agent} took longer than {handler.timeout:g} s",
            code="handler_timeout",
            object=name,
            cure="make it faster, or raise its timeout: @agent.on(timeout=…)",
        ) from error
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise HandlerCancelled(
            f"the handler of {name} in agent {ctx.agent} waited for something that was cancelled",
            code="handler_cancelled",
            object=name,
            cure="catch asyncio.CancelledError where it waits for what it cancels",
        ) from error


async def _in_thread(handler: Handler, threads: Executor, event: Message, ctx: Context[Any]) -> Outputs:
    context = contextvars.copy_context()
    call = partial(context.run, handler.function, event, ctx)
    return await asyncio.get_running_loop().run_in_executor(threads, call)  # type: ignore[arg-type]
