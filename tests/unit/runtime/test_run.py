import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced

from mesh import Agent, Context
from mesh.errors import MeshError, UsageError
from mesh.runtime.run import HandlerTimeout, compose, run

ORDER = OrderPlaced(order_id="7")


class Outputs:
    """The part of the context that a run needs."""

    agent = "seller"

    def __init__(self):
        self.returned = []

    def emit_all(self, returned):
        self.returned.append(returned)


@pytest.fixture
def ctx():
    return Outputs()


@pytest.fixture
def start(ctx):
    """Runs a function as a handler of OrderPlaced."""

    async def start(function, *middlewares, **options):
        agent = Agent("seller")
        agent.on(OrderPlaced, **options)(function)
        for middleware in middlewares:
            agent.middleware(middleware)
        [handler] = agent.handlers
        with ThreadPoolExecutor(1) as threads:
            await run(compose(handler, agent.middlewares, threads), handler, ORDER, ctx)

    return start


async def test_what_a_handler_returns_becomes_its_outputs(start, ctx):
    async def handle(event, ctx) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    await start(handle)

    assert ctx.returned == [OrderAccepted(order_id="7")]


async def test_a_plain_function_runs_in_a_thread_and_sees_the_context_of_the_event(start, ctx):
    span = contextvars.ContextVar("span")
    span.set("current")

    def handle(event, ctx):
        return threading.current_thread() is threading.main_thread(), span.get()

    await start(handle)

    assert ctx.returned == [(False, "current")]


async def test_the_first_middleware_is_the_outermost(start, ctx):
    calls = []

    def note(name):
        async def middleware(call_next, event, ctx):
            calls.append(f"{name} before")
            try:
                return [*await call_next(event, ctx), name]
            finally:
                calls.append(f"{name} after")

        return middleware

    async def handle(event, ctx):
        calls.append("handler")
        return []

    await start(handle, note("first"), note("second"))

    assert calls == ["first before", "second before", "handler", "second after", "first after"]
    assert ctx.returned == [["second", "first"]]


async def test_a_middleware_may_answer_instead_of_the_handler(start, ctx):
    async def instead(call_next, event, ctx):
        return None

    async def handle(event, ctx):
        raise AssertionError

    await start(handle, instead)

    assert ctx.returned == [None]


async def test_a_handler_that_takes_too_long_is_ended_with_a_cure(start, ctx):
    async def handle(event, ctx: Context) -> None:
        await asyncio.Event().wait()

    with pytest.raises(HandlerTimeout, match=r"took longer than 0\.01 s: make it faster, or raise its timeout") as late:
        await start(handle, timeout=0.01)

    assert (late.value.code, late.value.object) == ("handler_timeout", "shop.v1.OrderPlaced")
    assert ctx.returned == []


async def test_a_timeout_inside_of_a_handler_is_an_error_of_its_own(start):
    async def handle(event, ctx):
        raise TimeoutError("the model is slow")

    with pytest.raises(TimeoutError, match="the model is slow"):
        await start(handle)


async def test_a_handler_that_is_told_to_stop_stops(start):
    async def handle(event, ctx):
        await asyncio.Event().wait()

    task = asyncio.create_task(start(handle))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_a_handler_brought_about_itself_is_its_failure(start):
    """Or it would be taken for a shutdown, and the event delivered again and again without counting."""

    async def handle(event, ctx):
        call = asyncio.create_task(asyncio.Event().wait())
        call.cancel()
        await call

    with pytest.raises(MeshError, match=r"shop\.v1\.OrderPlaced in agent seller") as failure:
        await start(handle)

    assert failure.value.code == "handler_cancelled"
    assert isinstance(failure.value.__cause__, asyncio.CancelledError)


async def test_errors_of_a_handler_pass_unchanged(start):
    async def handle(event, ctx):
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        await start(handle)
