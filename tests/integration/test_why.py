import pytest
from billing.v1.events_pb2 import InvoiceRequested
from fleeting.v1.events_pb2 import Glow, SparkSeen
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused
from support import eventually

from mesh import Agent, Context, NotFound, Reject, UsageError
from mesh.query.why import read_questions


def why(stage, entity, **selection):
    return read_questions(stage.mesh.connection, stage.names, entity, **selection)


def decider(name, question, choice, **arguments):
    """An agent that decides whenever an order is placed."""
    agent = Agent(name)

    @agent.on
    async def decide(event: OrderPlaced, ctx: Context) -> None:
        await ctx.decide(question, choice, because="so it is", **arguments)

    return agent


async def test_a_chain_tells_who_overrode_whom_on_which_evidence_and_what_holds(stage):
    pricing, retention = Agent("pricing"), Agent("retention")

    @pricing.on
    async def price(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        await ctx.decide("discount", "5%", because="list price", confidence=0.6, alternatives=["0%", "10%"])
        return OrderAccepted(order_id=event.order_id, quantity=3)

    @retention.on
    async def retain(event: OrderAccepted, ctx: Context) -> OrderRefused:
        await ctx.decisions("discount")
        evidence = [ctx.causation_id, ctx.event_id]
        await ctx.decide("discount", "15%", because="too little", evidence=evidence, model="m-1", tokens=(812, 64))
        return OrderRefused(order_id=event.order_id)

    async with stage.running(pricing, retention):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7", email="ann@example.com"))
        await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)

    (question,) = await why(stage, "order/7")
    first, second = question.choices
    assert (question.domain, question.name) == ("shop", "discount")
    assert (first.decision.agent, first.overridden, first.handled.event_id) == ("pricing", None, emitted.id)
    assert first.evidence == [first.handled]
    assert second.overridden == first.decision
    assert [(e.event.type, e.event.seq) for e in second.evidence] == [
        ("shop.v1.OrderPlaced", emitted.seq),
        ("shop.v1.OrderAccepted", second.handled.event.seq),
    ]
    shown = question.as_json()["decisions"]
    assert [decision["holds"] for decision in shown] == [False, True]
    assert shown[0]["confidence"] == 0.6
    assert shown[0]["alternatives"] == ["0%", "10%"]
    assert shown[1]["confidence"] is None
    assert shown[1]["overrides"] == {"id": first.decision.id, "agent": "pricing", "choice": "5%"}
    assert shown[1]["had_seen"] is True
    assert (shown[1]["model"], shown[1]["input_tokens"], shown[1]["output_tokens"]) == ("m-1", 812, 64)
    assert shown[1]["evidence"][0]["event"]["data"]["email"] == "***"
    assert question.as_json(show_pii=True)["decisions"][0]["handled"]["event"]["data"]["email"] == "ann@example.com"


async def test_who_overrides_without_having_looked_has_not_seen(stage):
    async with stage.running(decider("pricing", "discount", "5%", entity="lead/1")):
        for order in ("a", "b"):
            await stage.mesh.emit(OrderPlaced(order_id=order))
        await eventually(lambda: stage.settled("shop", "pricing"))

    (question,) = await why(stage, "lead/1")

    first, second = question.choices
    assert second.overridden == first.decision
    assert not second.decision.had_seen


async def test_evidence_about_other_entities_is_found_in_every_domain(stage):
    agent = Agent("pricing")
    elsewhere = await stage.mesh.emit(InvoiceRequested(invoice_number=4711))
    named = await stage.mesh.emit(OrderPlaced(order_id="other"), id="an id of the caller")

    @agent.on
    async def price(event: OrderPlaced, ctx: Context) -> None:
        await ctx.decide("discount", "5%", because="", evidence=[elsewhere.id, named.id, "nobody knows it"])

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.settled("shop", "pricing"))

    (question,) = await why(stage, "order/7")

    invoice, order, missing = question.choices[0].evidence
    assert (invoice.event.key, invoice.event.stream) == ("4711", stage.names.stream("billing"))
    assert invoice.contract.entity_type == "invoice_number"
    assert (order.event.key, order.event.id) == ("other", "an id of the caller")
    assert (missing.event_id, missing.event, missing.contract) == ("nobody knows it", None, None)


async def test_questions_are_chains_of_their_own_and_one_can_be_asked_for(stage):
    async with stage.running(decider("pricing", "discount", "5%"), decider("sales", "owner", "ann")):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.settled("shop", "pricing"))
        await eventually(lambda: stage.settled("shop", "sales"))

    assert [q.name for q in await why(stage, "order/7")] == ["discount", "owner"]
    assert [q.name for q in await why(stage, "order/7", question="owner")] == ["owner"]
    assert [q.name for q in await why(stage, "order/7", domain="shop")] == ["discount", "owner"]


async def test_a_decision_that_nobody_took_names_those_that_were(stage):
    async with stage.running(decider("pricing", "discount", "5%")):
        await stage.mesh.emit(OrderPlaced(order_id="a/7"))
        await stage.mesh.emit(InvoiceRequested(invoice_number=1))
        await eventually(lambda: stage.settled("shop", "pricing"))

    with pytest.raises(NotFound, match="nobody has decided owner about order/a/7: ask for discount"):
        await why(stage, "order/a/7", question="owner")
    with pytest.raises(NotFound, match="nobody has decided about order/8: ask for order/a/7"):
        await why(stage, "order/8")
    with pytest.raises(NotFound, match=r"nobody has decided about lead/8: decide in an agent: ctx\.decide"):
        await why(stage, "lead/8")
    with pytest.raises(NotFound, match="nobody has decided about order/a/7"):
        await why(stage, "order/a/7", domain="billing")
    with pytest.raises(NotFound, match="there is no domain crm: name one of billing, shop"):
        await why(stage, "order/a/7", domain="crm")
    with pytest.raises(UsageError, match="'order' is not an entity: write lead/42"):
        await why(stage, "order")


async def test_state_decisions_and_dead_letters_outlive_the_events(stage):
    watcher, sceptic = Agent("watcher"), Agent("sceptic")

    @watcher.on
    async def see(event: SparkSeen, ctx: Context) -> None:
        glow = await ctx.state.get_or_new(Glow, event.spark_id)
        glow.seen += 1
        await ctx.state.put(glow)
        await ctx.decide("alarm", "none", because="it is one spark")

    @sceptic.on
    async def doubt(event: SparkSeen, ctx: Context) -> None:
        raise Reject("sparks do not exist")

    async with stage.running(watcher, sceptic):
        emitted = await stage.mesh.emit(SparkSeen(spark_id="1"))
        await eventually(lambda: stage.settled("fleeting", "watcher"))
        await eventually(lambda: stage.settled("fleeting", "sceptic"))
        assert await stage.subjects("fleeting", "state.>")

        async def forgotten():
            return not await stage.subjects("fleeting", "evt.>")

        await eventually(forgotten)

    assert (await stage.mesh.get_state(Glow, "1")).seen == 1
    (question,) = await why(stage, "spark/1")
    (choice,) = question.choices
    assert choice.decision.choice == "none"
    assert (choice.handled.event_id, choice.handled.event) == (emitted.id, None)
    (letter,) = await stage.dead_letters("fleeting")
    assert (letter.event_id, letter.data) == (emitted.id, SparkSeen(spark_id="1").SerializeToString())
