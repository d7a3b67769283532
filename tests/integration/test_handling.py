import asyncio
import json
import threading
from contextlib import asynccontextmanager

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock
from support import eventually

from mesh import Agent, Context, Refused


def clerk(name="clerk", **options):
    agent = Agent(name)

    @agent.on(**options)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id, quantity=event.quantity)

    return agent


async def test_an_event_is_answered_by_the_output_of_its_handler(stage):
    async with stage.running(clerk()):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7", quantity=3))
        answer = await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

        assert answer.message == OrderAccepted(order_id="7", quantity=3)
        assert (answer.agent, answer.key, answer.causation_id) == ("clerk", "7", emitted.id)


async def test_an_output_carries_the_cloudevents_headers_of_the_contract(stage):
    async with stage.running(clerk()):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="a b", quantity=3), id="order-1")
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

    (stored,) = await stage.messages("shop", "evt.order_accepted.>")
    headers = dict(stored.headers)
    assert stored.subject == f"{stage.names.name}.shop.evt.order_accepted.a%20b"
    assert headers["Nats-Msg-Id"] == f"order_accepted:{headers['ce-id']}"
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-source"] == "/agents/clerk"
    assert headers["ce-type"] == "shop.v1.OrderAccepted"
    assert headers["ce-subject"] == "order/a%20b"
    assert headers["ce-datacontenttype"] == "application/protobuf"
    assert headers["ce-correlationid"] == headers["ce-causationid"] == "order-1"
    assert headers["mesh-hops"] == "1"


async def test_an_event_with_the_same_id_is_stored_once(stage):
    first = await stage.mesh.emit(OrderPlaced(order_id="7"), id="order-7")
    second = await stage.mesh.emit(OrderPlaced(order_id="7"), id="order-7")

    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.seq == second.seq


async def test_several_outputs_are_committed_together_and_only_once(stage):
    agent = Agent("clerk")

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> list[OrderAccepted | OrderRefused]:
        ctx.emit(OrderRefused(order_id=event.order_id, reason="first"))
        return [OrderAccepted(order_id=event.order_id, quantity=n) for n in range(3)]

    async with stage.running(agent):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in range(50)))
        await eventually(lambda: stage.settled("shop", "clerk"))

    counts = await stage.counts("shop")
    assert (counts["evt.order_refused"], counts["evt.order_accepted"]) == (50, 150)


async def test_an_output_that_is_not_declared_is_refused_before_it_is_sent(stage):
    agent = Agent("clerk")

    @agent.on(max_attempts=1)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        ctx.emit(OrderRefused(order_id=event.order_id))
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert "emits shop.v1.OrderRefused and declares shop.v1.OrderAccepted" in letter.reason
    assert not await stage.subjects("shop", "evt.order_accepted.>")


async def test_a_plain_function_runs_in_a_thread(stage):
    threads = []
    agent = Agent("clerk")

    @agent.on
    def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        threads.append(threading.current_thread())
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

    assert threads[0] is not threading.main_thread()


async def test_middleware_wraps_handlers_with_the_first_added_outermost(stage):
    calls = []
    agent = clerk()

    @agent.middleware
    async def outer(call_next, event, ctx):
        calls.append("outer in")
        outputs = await call_next(event, ctx)
        calls.append("outer out")
        return outputs

    @agent.middleware
    async def inner(call_next, event, ctx):
        calls.append(f"inner {event.order_id}")
        return await call_next(event, ctx)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

    assert calls == ["outer in", "inner 7", "outer out"]


async def test_a_lifespan_surrounds_the_process_and_gives_the_resources(stage):
    steps = []

    @asynccontextmanager
    async def lifespan(agent):
        steps.append("open")
        yield {"greeting": "hello"}
        steps.append("close")

    agent = Agent("clerk", lifespan=lifespan)

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context[dict[str, str]]) -> OrderRefused:
        return OrderRefused(order_id=event.order_id, reason=ctx.resources["greeting"])

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        answer = await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)
        assert steps == ["open"]

    assert answer.message.reason == "hello"
    assert steps == ["open", "close"]


async def test_state_that_two_agents_change_at_once_loses_no_update(stage):
    def storekeeper(name):
        agent = Agent(name)

        @agent.on
        async def reserve(event: OrderPlaced, ctx: Context) -> OrderAccepted:
            stock = await ctx.state.get_or_new(Stock, "shelf-1")
            stock.reserved += event.quantity
            await ctx.state.put(stock)
            return OrderAccepted(order_id=event.order_id)

        return agent

    async with stage.running(storekeeper("left")), stage.running(storekeeper("right")):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n), quantity=2)) for n in range(40)))
        await eventually(lambda: stage.settled("shop", "left"))
        await eventually(lambda: stage.settled("shop", "right"))

    (stored,) = await stage.messages("shop", "state.stock.shelf-1")
    assert Stock.FromString(stored.data) == Stock(shelf_id="shelf-1", reserved=2 * 2 * 40)
    assert (await stage.counts("shop"))["evt.order_accepted"] == 80


async def test_state_that_was_only_read_is_validated_by_the_commit(stage):
    agent = Agent("clerk")
    seen = []
    others_turn, go_on = asyncio.Event(), asyncio.Event()

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        stock = await ctx.state.get(Stock, "shelf-1")
        seen.append(stock.reserved if stock else 0)
        others_turn.set()
        await go_on.wait()
        return OrderAccepted(order_id=event.order_id, quantity=seen[-1])

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await others_turn.wait()
        subject = f"{stage.names.name}.shop.state.stock.shelf-1"
        await stage.mesh.connection.request(subject, Stock(shelf_id="shelf-1", reserved=5).SerializeToString())
        go_on.set()
        answer = await stage.mesh.wait_for(OrderAccepted, key="7")

    assert seen == [0, 5]
    assert answer.message.quantity == 5
    assert (await stage.counts("shop"))["evt.order_accepted"] == 1


async def test_a_handling_that_changes_state_only_leaves_a_record_of_its_commit(stage):
    agent = Agent("clerk")

    @agent.on
    async def reserve(event: OrderPlaced, ctx: Context) -> None:
        await ctx.state.put(Stock(shelf_id="shelf-1", reserved=event.quantity))

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7", quantity=4))
        await eventually(lambda: stage.settled("shop", "clerk"))

    (done,) = await stage.messages("shop", "done.clerk.7")
    assert done.headers["ce-causationid"] == emitted.id
    (stored,) = await stage.messages("shop", "state.>")
    assert stored.headers["Nats-TTL"] == "never"


async def test_deleted_state_is_gone_for_the_next_handling(stage):
    agent = Agent("clerk")
    seen = []

    @agent.on(concurrency=1)
    async def accept(event: OrderPlaced, ctx: Context) -> None:
        seen.append(await ctx.state.get(Stock, "shelf-1"))
        if event.quantity:
            await ctx.state.put(Stock(shelf_id="shelf-1", reserved=event.quantity))
        else:
            await ctx.state.delete(Stock, "shelf-1")

    async with stage.running(agent):
        for number, quantity in enumerate([3, 0, 5]):
            await stage.mesh.emit(OrderPlaced(order_id=str(number), quantity=quantity))
            await eventually(lambda: stage.settled("shop", "clerk"))

    assert seen == [None, Stock(shelf_id="shelf-1", reserved=3), None]


async def test_a_command_reaches_its_one_handler(stage):
    agent = Agent("packer")

    @agent.on
    async def pack(command: PackOrder, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=command.order_id)

    async with stage.running(agent):
        sent = await stage.mesh.send(PackOrder(order_id="7"))
        answer = await stage.mesh.wait_for(OrderAccepted, correlation_id=sent.id)

    assert answer.agent == "packer"


async def test_a_second_agent_that_handles_a_command_is_refused(stage):
    def packer(name):
        agent = Agent(name)

        @agent.on
        async def pack(command: PackOrder, ctx: Context) -> None: ...

        return agent

    async with stage.running(packer("first")):
        with pytest.raises(Refused, match=r"shop\.v1\.PackOrder is handled by agent first"):
            async with stage.running(packer("second")):
                pass


async def test_an_output_into_another_domain_is_committed_at_home_and_forwarded(stage):
    agent = Agent("clerk")

    @agent.on
    async def bill(event: OrderPlaced, ctx: Context) -> tuple[OrderAccepted, InvoiceRequested]:
        return OrderAccepted(order_id=event.order_id), InvoiceRequested(invoice_number=int(event.order_id))

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        answer = await stage.mesh.wait_for(InvoiceRequested, correlation_id=emitted.id)

    assert answer.key == "7"
    (home,) = await stage.messages("shop", "out.billing.invoice_requested.7")
    (away,) = await stage.messages("billing", "evt.invoice_requested.7")
    assert home.headers["ce-id"] == away.headers["ce-id"]


async def test_an_output_over_the_size_limit_fails_before_it_reaches_the_wire(stage):
    agent = Agent("clerk")

    @agent.on(max_attempts=1)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderRefused:
        return OrderRefused(order_id=event.order_id, reason="x" * 2_000_000 if event.quantity else "small")

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="big", quantity=1))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        emitted = await stage.mesh.emit(OrderPlaced(order_id="small"))
        await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)

    assert "the server accepts 1048576" in letter.reason


async def test_an_emit_over_the_size_limit_is_refused_and_the_connection_lives(stage):
    with pytest.raises(Refused, match="the server accepts 1048576"):
        await stage.mesh.emit(OrderPlaced(order_id="7", attachment=b"x" * (1 << 20)))

    assert (await stage.mesh.emit(OrderPlaced(order_id="7"))).seq


async def test_the_registry_tells_what_an_agent_handles_and_emits(stage):
    async with stage.running(clerk()):
        info = await stage.consumer("shop", "clerk")

    prefix = stage.names.name
    assert sorted(info["config"]["filter_subjects"]) == [
        f"{prefix}.shop.due.clerk.*",
        f"{prefix}.shop.evt.order_placed.*",
        f"{prefix}.shop.redo.clerk.order_placed.*",
    ]
    assert info["config"]["max_deliver"] == -1
    assert json.dumps(info["config"]["ack_wait"]) == "2000000000"
