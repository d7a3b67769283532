"""The audit: silent about a log that is sound, however busy it was; names what is not."""

import asyncio
import json
from datetime import timedelta

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock
from support import Stage, eventually

from mesh import Agent, Context, Reject, Retry
from mesh.contract.cloudevents import CloudEvent
from mesh.jetstream.delivery import PulledMessage
from mesh.jetstream.log import JetStreamLog
from mesh.query.agents import Agents
from mesh.query.audit import audit
from mesh.query.dead_letters import DeadLetters
from mesh.query.domains import domain_streams
from mesh.query.tally import Tally
from mesh.runtime.ports import Write
from mesh.runtime.proof import Proofs
from mesh.v1.decision_pb2 import Decision

CLIENT = "/somewhere/else"
ORDERS = 80


async def audited(stage, *domains):
    streams = await domain_streams(stage.mesh.connection, stage.names)
    return await audit(stage.mesh.connection, stage.names, domains or streams)


async def violations(stage):
    """What was found in the shop, as (invariant, id)."""
    (found,) = (await audited(stage, "shop")).domains
    return [(violation.invariant, violation.id) for violation in found.violations]


async def tallies(stage):
    (found,) = (await audited(stage, "shop")).domains
    return {tally.agent: tally for tally in found.agents}


async def all_settled(stage):
    """Whether no durable of any domain has anything to do, and no timer is set."""
    for domain, stream in (await domain_streams(stage.mesh.connection, stage.names)).items():
        page = await stage.api.call(f"CONSUMER.LIST.{stream}", {"offset": 0})
        if any(info["num_pending"] or info["num_ack_pending"] for info in page["consumers"] or ()):
            return False
        if await stage.subjects(domain, "timer.>"):
            return False
    return True


def clerk(name="clerk", **options):
    agent = Agent(name)

    @agent.on(**options)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    return agent


async def handle_order(stage, *agents):
    """Has an order handled, and returns its id."""
    async with stage.running(*agents):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: all_settled(stage))
    return emitted.id


def made_of(cause_id, event_id, agent="clerk"):
    """The headers of something that an agent made of an event."""
    cause = CloudEvent(cause_id, CLIENT, "shop.v1.OrderPlaced", "order/7", cause_id)
    return cause.effect(id=event_id, source=f"/agents/{agent}", type="", subject="order/7").headers()


async def put(stage, below, headers, data=b""):
    """Writes a message into the shop as no agent would: it has no message id, so no server stops it."""
    log, names = JetStreamLog(stage.mesh.connection, stage.names), stage.names
    await log.commit(names.stream("shop"), [Write(f"{names.name}.shop.{below}", data, headers)])


class Busy:
    """A shop where everything happens that is legal."""

    def __init__(self):
        self.open = False
        self.desk = self._desk()
        self.packer = self._packer()
        self.patient = self._patient()

    def _desk(self):
        agent = Agent("desk")

        @agent.on(max_attempts=3, emits=[PackOrder, InvoiceRequested])
        async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted | None:
            number = int(event.order_id)
            if number % 5 == 0 and ctx.attempt == 1:
                raise ZeroDivisionError("broken scales")
            if number % 7 == 0 and not self.open:
                raise Reject("we are closed")
            if number % 11 == 0:
                await ctx.decide("discount", "5%", because="it is", entity=f"shelf/{number % 3}")
            if number % 4 == 0:
                return None  # leaves no trace, unless it decided
            stock = await ctx.state.get_or_new(Stock, f"shelf-{number % 6}")
            stock.reserved += 1
            await ctx.state.put(stock)
            ctx.emit(PackOrder(order_id=event.order_id))
            ctx.emit(InvoiceRequested(invoice_number=number), delay=0.3 if number % 3 == 0 else None)
            return OrderAccepted(order_id=event.order_id) if number % 2 else None

        return agent

    def _packer(self):
        agent = Agent("packer")
        waited = set()

        @agent.on(isolated=True)
        async def pack(event: PackOrder, ctx: Context) -> OrderRefused | None:
            if event.order_id not in waited and int(event.order_id) % 9 == 0:
                waited.add(event.order_id)
                raise Retry(after=timedelta(milliseconds=50))
            async with ctx.claim(f"shelf-{int(event.order_id) % 4}", wait=10):
                await ctx.decide("discount", "0%", because="it is packed", entity=f"shelf/{int(event.order_id) % 3}")
            return OrderRefused(order_id=event.order_id) if int(event.order_id) % 6 == 1 else None

        return agent

    def _patient(self):
        agent = Agent("patient")

        @agent.on(emits=[OrderRefused])
        async def wait(event: OrderAccepted, ctx: Context) -> None:
            ctx.expect(OrderPlaced, within=0.2, otherwise=OrderRefused(order_id=event.order_id, reason="too late"))
            if int(event.order_id) % 3:
                await ctx.decide("late", "yes", because="nobody came")

        return agent

    async def open_shop(self, stage):
        """Redrives what was rejected."""
        self.open = True
        letters = DeadLetters(stage.mesh.connection, stage.names)
        for dead in [dead async for dead in letters.all()]:
            await letters.redrive(dead)


@pytest.mark.timeout(120)
async def test_a_busy_mesh_with_failures_redrives_timers_and_other_domains_is_sound(stage):
    shop = Busy()
    async with stage.running(shop.desk, shop.packer, shop.patient), stage.running(shop.desk, shop.packer):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n)), id=f"order-{n}") for n in range(ORDERS)))
        for _ in range(5):
            found = await audited(stage)
            assert not any(found.broken.values()), found
        await eventually(lambda: all_settled(stage), within=50)
        before = await tallies(stage)
        await shop.open_shop(stage)
        await eventually(lambda: all_settled(stage), within=50)

    rejected = len(range(0, ORDERS, 7))
    found = await audited(stage)
    assert not any(found.broken.values()), found
    assert (before["desk"].handled, before["desk"].dead) == (ORDERS - rejected, rejected)
    counts, after = await stage.counts("shop"), await tallies(stage)
    assert after["desk"].handled == ORDERS
    assert (after["desk"].dead, after["desk"].pending) == (0, 0)
    assert after["packer"].handled == after["packer"].answered == counts["cmd.pack_order"]
    assert after["patient"].handled == after["patient"].answered == counts["evt.order_accepted"]
    assert [domain.events for domain in found.domains] == [
        (await stage.counts("billing"))["evt.invoice_requested"],
        sum(count for name, count in counts.items() if name[:3] in ("evt", "cmd")),
    ]


async def test_two_events_of_one_type_and_id_are_found(stage):
    await stage.mesh.emit(OrderPlaced(order_id="7"), id="order-7")
    await stage.mesh.emit(OrderAccepted(order_id="7"), id="order-7")
    assert await violations(stage) == []

    await put(stage, "evt.order_placed.8", {"ce-id": "order-7"})

    assert await violations(stage) == [("duplicate_id", "order-7")]


async def test_an_effect_whose_cause_was_lost_is_found(stage):
    await handle_order(stage, clerk())
    (accepted,) = await stage.messages("shop", "evt.order_accepted.>")

    await stage.api.call(f"STREAM.MSG.DELETE.{stage.names.stream('shop')}", {"seq": accepted.sequence})
    assert await violations(stage) == []
    await put(stage, "done.clerk.7", made_of("nobody", "of-nobody"))

    assert await violations(stage) == [("orphan_cause", "of-nobody")]


async def test_a_cause_that_has_aged_out_is_not_missed(mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace, duplicate_window=0.5).open() as stage:
        agent = clerk()

        @agent.on
        async def judge(event: OrderAccepted, ctx: Context) -> None:
            await ctx.decide("discount", "5%", because="it is")

        await handle_order(stage, agent)
        stream = stage.names.stream("shop")
        config = (await stage.api.call(f"STREAM.INFO.{stream}"))["config"]
        await stage.api.call(f"STREAM.UPDATE.{stream}", config | {"max_age": 1_000_000_000})
        await eventually(lambda: _aged_out(stage))

        assert await stage.subjects("shop", "dec.>")
        assert await violations(stage) == []


async def _aged_out(stage):
    return not await stage.subjects("shop", "evt.>")


async def test_a_second_commit_for_an_input_is_found(stage):
    order = await handle_order(stage, clerk())

    await put(stage, "done.clerk.7", made_of(order, "again"))

    assert await violations(stage) == [("double_commit", "again")]


async def test_a_handling_that_was_repeated_because_nobody_looked_is_found(mesh_server, mesh_namespace, monkeypatch):
    async def never(self, incoming, start):
        return False

    monkeypatch.setattr(Proofs, "is_committed", never)
    runs = []

    def forgetful():
        agent = Agent("clerk")

        @agent.on
        async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted | OrderRefused:
            runs.append(event.order_id)
            return OrderRefused(order_id="7") if len(runs) > 1 else OrderAccepted(order_id="7")

        return agent

    async with Stage(mesh_server, mesh_namespace, ack_wait=1.0, duplicate_window=0.5).open() as stage:
        with monkeypatch.context() as patch:
            patch.setattr(PulledMessage, "ack", lambda self: None)
            async with stage.running(forgetful()):
                emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
                await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)
        await asyncio.sleep(1)  # the server forgets the message id
        async with stage.running(forgetful()):
            await eventually(lambda: all_settled(stage))
        (refused,) = await stage.messages("shop", "evt.order_refused.7")

        assert await violations(stage) == [("double_commit", refused.headers["ce-id"])]


async def test_a_decision_that_overrides_another_one_than_the_last_is_found(stage):
    agent = Agent("clerk")

    @agent.on
    async def decide(event: OrderPlaced, ctx: Context) -> None:
        await ctx.decide("discount", "5%", because="it is")

    order = await handle_order(stage, agent)
    (first,) = await stage.messages("shop", "dec.discount.order.7")
    for name, overrides in (("second", first.headers["ce-id"]), ("third", first.headers["ce-id"]), ("fourth", "third")):
        decision = Decision(id=name, question="discount", entity="order/7", overrides=overrides)
        await put(stage, "dec.discount.order.7", made_of(order, name, "human"), decision.SerializeToString())

    assert [found for found in await violations(stage) if found[0] == "decision_gap"] == [("decision_gap", "third")]


async def test_an_output_that_did_not_reach_its_domain_is_found_once_its_input_is_settled(stage, monkeypatch):
    agent = Agent("clerk")

    @agent.on
    async def bill(event: OrderPlaced, ctx: Context) -> InvoiceRequested:
        return InvoiceRequested(invoice_number=7)

    commit = JetStreamLog.commit

    async def commit_at_home_only(self, stream, writes):
        if stream == stage.names.stream("billing"):
            await asyncio.sleep(60)
        return await commit(self, stream, writes)

    with monkeypatch.context() as patch:
        patch.setattr(JetStreamLog, "commit", commit_at_home_only)
        hasty = stage.settings.model_copy(update={"shutdown_grace": 0.1})
        async with stage.running(agent, settings=hasty):
            await stage.mesh.emit(OrderPlaced(order_id="7"))
            (out,) = await eventually(lambda: stage.messages("shop", "out.>"))
            assert await violations(stage) == []
    await stage.api.call(f"CONSUMER.RESET.{stage.names.stream('shop')}.clerk", {"seq": out.sequence + 1})

    assert await violations(stage) == [("lost_output", out.headers["ce-id"])]


async def test_a_command_that_two_agents_handled_is_found(stage):
    agent = Agent("packer")

    @agent.on
    async def pack(event: PackOrder, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        sent = await stage.mesh.send(PackOrder(order_id="7"))
        await eventually(lambda: all_settled(stage))
    assert await violations(stage) == []
    await put(stage, "done.robot.7", made_of(sent.id, "packed-by-robot", "robot"))

    assert await violations(stage) == [("shared_command", sent.id)]


async def test_events_that_carry_their_attributes_in_the_payload_are_no_trouble(stage):
    headers = {"Content-Type": "application/cloudevents+json"}
    envelope = {"specversion": "1.0", "id": "n-1", "source": CLIENT, "type": "shop.v1.OrderPlaced"}
    async with stage.running(clerk()):
        await put(stage, "evt.order_placed.7", headers, json.dumps(envelope | {"data": {"order_id": "7"}}).encode())
        await put(stage, "evt.order_placed.8", headers, json.dumps(envelope | {"data": {"order_id": 8.5}}).encode())
        await put(stage, "evt.order_placed.9", headers, b"{")
        await eventually(lambda: all_settled(stage))

    assert await violations(stage) == [("duplicate_id", "n-1")]
    assert (await tallies(stage))["clerk"] == Tally("clerk", handled=1, answered=1, dead=2, pending=0)


async def test_pending_and_unsettled_events_are_told_from_handled_ones(stage):
    release = asyncio.Event()
    agent = Agent("clerk")

    @agent.on(concurrency=4)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        if event.order_id != "first":
            await release.wait()
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="first"))
        await eventually(lambda: all_settled(stage))
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in range(10)))
        assert (await tallies(stage))["clerk"] == Tally("clerk", handled=1, answered=1, dead=0, pending=10)
        release.set()
        await eventually(lambda: all_settled(stage))

    assert (await tallies(stage))["clerk"] == Tally("clerk", handled=11, answered=11, dead=0, pending=0)


async def test_an_agent_that_reads_new_events_only_has_not_handled_the_old_ones(stage):
    await stage.mesh.emit(OrderPlaced(order_id="old"))

    await handle_order(stage, clerk(deliver="new"))

    assert (await tallies(stage))["clerk"] == Tally("clerk", handled=1, answered=1, dead=0, pending=0)


async def test_what_was_there_before_an_agent_learned_to_read_it_is_not_handled(stage):
    agent = clerk()
    await stage.mesh.emit(OrderRefused(order_id="7"))
    await handle_order(stage, agent)

    @agent.on
    async def file(event: OrderRefused, ctx: Context) -> None:
        pass

    async with stage.running(agent):
        await stage.mesh.emit(OrderRefused(order_id="8"))
        await eventually(lambda: all_settled(stage))

    assert (await tallies(stage))["clerk"] == Tally("clerk", handled=2, answered=1, dead=0, pending=0)


async def test_of_an_agent_that_was_retired_the_log_alone_tells(stage):
    await handle_order(stage, clerk())
    agents = Agents(stage.mesh.connection, stage.names)

    await agents.retire(await agents.get("clerk"))

    assert (await tallies(stage))["clerk"] == Tally("clerk", handled=None, answered=1, dead=0, pending=None)


async def test_a_namespace_without_domains_is_sound(stage):
    found = await audited(stage)

    assert found.domains == ()
    assert not any(found.broken.values())
