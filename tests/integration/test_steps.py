import asyncio
import json

import pytest
from pydantic import BaseModel
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock
from support import eventually

from mesh import Agent, Context, Retry


class Quote(BaseModel):
    price: int
    tags: list[str] = []


def failing_once(agent, body):
    """Declares a handler that runs `body` and fails in its first attempt."""

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        quantity = await body(event, ctx)
        if ctx.attempt == 1:
            raise RuntimeError("after the step")
        return OrderAccepted(order_id=event.order_id, quantity=quantity)


async def accepted(stage):
    emitted = await stage.mesh.emit(OrderPlaced(order_id="7", quantity=2))
    return (await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)).message.quantity


async def test_a_step_is_not_repeated_by_a_redelivery(stage):
    calls = []

    async def ask(quantity: int) -> Quote:
        calls.append(quantity)
        return Quote(price=10 * quantity + len(calls))

    async def body(event, ctx):
        quote = await ctx.step("ask", ask, event.quantity)
        assert isinstance(quote, Quote)
        return quote.price

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        assert await accepted(stage) == 21

    assert calls == [2]
    await eventually(lambda: _journal_is_empty(stage))


async def _journal_is_empty(stage):
    return not await stage.api.subjects(stage.names.journal_stream, ">")


async def test_a_step_with_other_arguments_is_another_step(stage):
    """Whoever decides on fresh state asks again."""
    calls = []

    async def ask(reserved: int) -> int:
        calls.append(reserved)
        if len(calls) == 1:
            subject = f"{stage.names.name}.shop.state.stock.shelf"
            await stage.mesh.connection.request(subject, Stock(shelf_id="shelf", reserved=5).SerializeToString())
        return reserved

    agent = Agent("clerk")

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        stock = await ctx.state.get_or_new(Stock, "shelf")
        answer = await ctx.step("ask", ask, stock.reserved)
        return OrderAccepted(order_id=event.order_id, quantity=answer)

    async with stage.running(agent):
        assert await accepted(stage) == 5

    assert calls == [0, 5]


async def test_a_step_called_twice_with_the_same_arguments_is_two_calls(stage):
    calls = []

    def roll() -> int:
        calls.append(len(calls) + 1)
        return calls[-1]

    async def body(event, ctx):
        return 10 * await ctx.step("roll", roll) + await ctx.step("roll", roll)

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        assert await accepted(stage) == 12

    assert calls == [1, 2]


async def test_the_first_run_sees_what_a_later_run_would_see(stage):
    seen = []

    async def ask() -> dict[str, tuple[int, ...]]:
        return {"a": (1, 2)}

    async def untyped():
        return {"a": (1, 2)}

    async def message() -> OrderPlaced:
        return OrderPlaced(order_id="x", quantity=3)

    async def body(event, ctx):
        seen.append([await ctx.step(f.__name__, f) for f in (ask, untyped, message)])
        return 1

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        await accepted(stage)

    expected = [{"a": (1, 2)}, {"a": [1, 2]}, OrderPlaced(order_id="x", quantity=3)]
    assert seen == [expected, expected]


async def test_steps_run_side_by_side(stage):
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        await both.wait()
        return name

    async def body(event, ctx):
        if ctx.attempt == 1:
            names = await asyncio.gather(ctx.step("a", meet, "a"), ctx.step("b", meet, "b"))
        else:
            names = [await ctx.step("a", meet, "a"), await ctx.step("b", meet, "b")]
        assert list(names) == ["a", "b"]
        return 1

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        assert await accepted(stage) == 1


async def test_a_large_result_is_stored_once_by_its_content(stage):
    async def ask(number: int) -> str:
        return "x" * 3_000_000

    async def body(event, ctx):
        return len(await ctx.step("ask", ask, 1)) + len(await ctx.step("ask", ask, 2))

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        assert await accepted(stage) == 6_000_000
        blobs = await stage.api.call(f"STREAM.INFO.OBJ_{stage.names.blob_bucket}")

    assert 3_000_000 < blobs["state"]["bytes"] < 3_500_000


async def test_a_conversation_of_100_calls_costs_linear_bytes(stage):
    """Only answers are written down; the growing history is an argument, of which a hash is kept."""
    sizes = []

    async def ask(history: list[str]) -> str:
        return "a" * 1000

    agent = Agent("clerk")

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        history: list[str] = []
        for number in range(100):
            history.append(await ctx.step("ask", ask, history))
            if number in (49, 99):
                info = await stage.api.call(f"STREAM.INFO.{stage.names.journal_stream}")
                sizes.append(info["state"]["bytes"])
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        await accepted(stage)

    assert sizes[0] > 50_000
    assert sizes[1] < 2.1 * sizes[0]


@pytest.mark.parametrize(
    ("result", "reason"),
    [(object(), "cannot be stored"), ("x" * (33 << 20), r"takes 34603010 bytes, 33554432 are allowed")],
)
async def test_a_result_that_cannot_be_stored_is_a_clear_error(stage, result, reason):
    async def ask():
        return result

    agent = Agent("clerk")

    @agent.on(max_attempts=1)
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        await ctx.step("ask", ask)
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert reason in letter.reason
    assert "'ask'" in letter.reason


async def test_an_argument_that_cannot_be_serialized_is_a_clear_error(stage):
    async def ask(thing) -> int:
        return 1

    agent = Agent("clerk")

    @agent.on(max_attempts=1)
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        await ctx.step("ask", ask, object())
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert "argument 0 of step 'ask' cannot be serialized" in letter.reason


async def test_an_effect_happens_once_and_gets_a_stable_idempotency_key(stage):
    keys = []

    async def pay(amount: int, *, idempotency_key: str) -> int:
        keys.append(idempotency_key)
        return amount

    async def body(event, ctx):
        return await ctx.effect("pay", pay, 30)

    agent = Agent("clerk")
    failing_once(agent, body)
    async with stage.running(agent):
        assert await accepted(stage) == 30

    assert len(keys) == 1
    assert "clerk" in keys[0]


async def test_an_effect_that_may_have_happened_parks_the_event(stage):
    calls = []

    async def pay(*, idempotency_key: str) -> int:
        calls.append(idempotency_key)
        raise ConnectionError("the line went dead")

    agent = Agent("clerk")

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id, quantity=await ctx.effect("pay", pay))

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert letter.code == "effect_unsettled"
    assert calls[0] in letter.reason
    assert len(calls) == 1


@pytest.mark.parametrize(("happened", "expected_calls"), [(True, 1), (False, 2)])
async def test_an_effect_that_may_have_happened_is_reconciled(stage, happened, expected_calls):
    calls, asked = [], []

    async def pay(*, idempotency_key: str) -> int:
        calls.append(idempotency_key)
        if len(calls) == 1:
            raise ConnectionError("the line went dead")
        return 30

    async def look_up(key: str) -> int | None:
        asked.append(key)
        return 30 if happened else None

    agent = Agent("clerk")

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        paid = await ctx.effect("pay", pay, reconcile=look_up)
        return OrderAccepted(order_id=event.order_id, quantity=paid)

    async with stage.running(agent):
        assert await accepted(stage) == 30

    assert len(calls) == expected_calls
    assert set(asked) == set(calls)


async def test_an_effect_that_asks_for_a_retry_did_not_happen(stage):
    calls = []

    async def pay(*, idempotency_key: str) -> int:
        calls.append(idempotency_key)
        if len(calls) < 3:
            raise Retry("busy", after=0.05)
        return 30

    agent = Agent("clerk")

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id, quantity=await ctx.effect("pay", pay))

    async with stage.running(agent):
        assert await accepted(stage) == 30

    assert len(calls) == 3
    assert len(set(calls)) == 1
    assert json.dumps(calls[0])
