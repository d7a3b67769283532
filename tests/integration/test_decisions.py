import asyncio

from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused
from support import eventually

from mesh import Agent, Context
from mesh.v1.decision_pb2 import Decision


async def decisions(stage, question, entity):
    kind, _, key = entity.partition("/")
    stored = await stage.messages("shop", f"dec.{question}.{kind}.{key}")
    return [Decision.FromString(message.data) for message in stored]


async def test_a_decision_is_committed_with_its_outputs_and_names_what_it_overrides(stage):
    pricing, retention = Agent("pricing"), Agent("retention")

    @pricing.on
    async def price(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        await ctx.decide("discount", "5%", because="list price", confidence=0.6, alternatives=["0%"])
        return OrderAccepted(order_id=event.order_id)

    @retention.on
    async def retain(event: OrderAccepted, ctx: Context) -> OrderRefused:
        (earlier,) = await ctx.decisions("discount")
        await ctx.decide("discount", "15%", because=f"{earlier.choice} is too little", evidence=[ctx.event_id])
        return OrderRefused(order_id=event.order_id)

    async with stage.running(pricing, retention):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)

    first, second = await decisions(stage, "discount", "order/7")
    assert (first.agent, first.choice, first.because, first.overrides) == ("pricing", "5%", "list price", "")
    assert list(first.evidence) == [emitted.id]
    assert (first.confidence, list(first.alternatives)) == (0.6, ["0%"])
    assert (second.agent, second.choice, second.overrides, second.had_seen) == ("retention", "15%", first.id, True)
    assert second.because == "5% is too little"
    assert not second.HasField("confidence")


async def test_an_override_by_somebody_who_had_not_looked_says_so(stage):
    agent = Agent("pricing")

    @agent.on(concurrency=1)
    async def price(event: OrderPlaced, ctx: Context) -> None:
        await ctx.decide("discount", event.order_id, because="", entity="lead/1")

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="a"))
        await stage.mesh.emit(OrderPlaced(order_id="b"))
        await eventually(lambda: stage.settled("shop", "pricing"))

    first, second = await decisions(stage, "discount", "lead/1")
    assert (second.overrides, second.had_seen) == (first.id, False)


async def test_a_decision_on_a_stale_view_runs_the_handler_again(stage):
    seen = []
    meet = asyncio.Barrier(2)

    def decider(name):
        agent = Agent(name)

        @agent.on
        async def decide(event: OrderPlaced, ctx: Context) -> None:
            earlier = [d.agent for d in await ctx.decisions("discount")]
            seen.append((name, earlier))
            if not earlier:
                await meet.wait()
            await ctx.decide("discount", name, because="mine")

        return agent

    async with stage.running(decider("left"), decider("right")):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: _settled(stage))

    first, second = await decisions(stage, "discount", "order/7")
    assert second.overrides == first.id
    assert second.had_seen
    assert sorted(seen) == sorted([("left", []), ("right", []), (second.agent, [first.agent])])


async def _settled(stage):
    return await stage.settled("shop", "left") and await stage.settled("shop", "right")


async def test_many_deciders_leave_one_chain_and_exact_counters(stage):
    def decider(name):
        agent = Agent(name)

        @agent.on(concurrency=8)
        async def decide(event: OrderPlaced, ctx: Context) -> None:
            await ctx.decide("owner", event.order_id, because="", entity=f"shelf/{event.quantity}")

        return agent

    async with stage.running(decider("left")), stage.running(decider("right")), stage.running(decider("left")):
        await asyncio.gather(
            *(stage.mesh.emit(OrderPlaced(order_id=str(n), quantity=n % 3)) for n in range(60)),
        )
        await eventually(lambda: _settled(stage), within=40)

    for shelf in range(3):
        chain = await decisions(stage, "owner", f"shelf/{shelf}")
        assert len(chain) == 2 * 20
        assert [d.overrides for d in chain] == ["", *(d.id for d in chain[:-1])]
