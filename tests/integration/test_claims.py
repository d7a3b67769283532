import asyncio

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused
from support import eventually

from mesh import Agent, AlreadyClaimed, Context


def claimer(name, inside, *, ttl=5, wait=0.0):
    agent = Agent(name)

    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        async with ctx.claim("desk", ttl=ttl, wait=wait):
            await inside(event, ctx)
        return OrderAccepted(order_id=event.order_id)

    return agent


async def test_one_handling_at_a_time_holds_a_claim(stage):
    inside, most = 0, 0

    async def count(event, ctx):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1

    async with stage.running(claimer("left", count, wait=20)), stage.running(claimer("right", count, wait=20)):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in range(10)))
        await eventually(lambda: _both_settled(stage))

    assert most == 1
    assert (await stage.counts("shop"))["evt.order_accepted"] == 20


async def _both_settled(stage):
    return await stage.settled("shop", "left") and await stage.settled("shop", "right")


async def test_a_claim_says_who_holds_it_and_until_when(stage):
    errors, release = [], asyncio.Event()

    async def hold(event, ctx):
        await release.wait()

    other = Agent("other")

    @other.on
    async def ask(event: OrderRefused, ctx: Context) -> None:
        try:
            async with ctx.claim("desk"):
                pass
        except AlreadyClaimed as error:
            errors.append(error)

    async with stage.running(claimer("holder", hold), other):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.subjects("shop", "claim.desk"))
        await stage.mesh.emit(OrderRefused(order_id="7"))
        (error,) = await eventually(lambda: errors)
        release.set()

    assert (error.by, error.object) == ("holder", "desk")
    assert 0 < error.after <= 5


async def test_a_claim_that_is_not_waited_for_makes_the_event_come_again_without_counting(stage):
    attempts, release = [], asyncio.Event()

    async def hold(event, ctx):
        await release.wait()

    other = Agent("other")

    @other.on(max_attempts=1)
    async def ask(event: OrderRefused, ctx: Context) -> OrderAccepted:
        attempts.append(ctx.attempt)
        release.set()
        async with ctx.claim("desk"):
            return OrderAccepted(order_id="other")

    async with stage.running(claimer("holder", hold, ttl=1), other):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.subjects("shop", "claim.desk"))
        await stage.mesh.emit(OrderRefused(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, key="other")

    assert set(attempts) == {1}
    assert not await stage.dead_letters("shop")


async def test_a_claim_is_renewed_while_it_is_held(stage):
    async def hold(event, ctx):
        await asyncio.sleep(3.5)

    async with stage.running(claimer("holder", hold, ttl=1)):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, key="7")

    assert (await stage.counts("shop"))["evt.order_accepted"] == 1


async def test_whoever_lost_its_claim_cannot_commit(stage):
    runs = []

    async def lose(event, ctx):
        runs.append(ctx.attempt)
        if len(runs) == 1:
            subject = f"{stage.names.name}.shop.claim.desk"
            await stage.mesh.connection.request(f"$JS.API.STREAM.PURGE.{stage.names.stream('shop')}", _only(subject))

    async with stage.running(claimer("holder", lose)):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, key="7")
        await eventually(lambda: stage.settled("shop", "holder"))

    assert runs == [1, 1]
    assert (await stage.counts("shop"))["evt.order_accepted"] == 1


def _only(subject):
    return f'{{"filter": "{subject}"}}'.encode()


async def test_the_next_attempt_takes_over_the_claim_of_the_one_that_failed(stage):
    async def fail_once(event, ctx):
        if ctx.attempt == 1:
            raise RuntimeError("once")

    async with stage.running(claimer("holder", fail_once, ttl=60)):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, key="7", timeout=10)


@pytest.mark.parametrize("second", ["a", "b"])
async def test_claims_out_of_order_are_refused(stage, second):
    agent = Agent("holder")

    @agent.on(max_attempts=1)
    async def handle(event: OrderPlaced, ctx: Context) -> None:
        async with ctx.claim("b"), ctx.claim(second):
            pass

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert letter.error_type == "ClaimOrderError"
    assert f"{second} is claimed after b" in letter.reason
