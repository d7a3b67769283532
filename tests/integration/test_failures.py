import asyncio
import itertools
import json
import time
from datetime import timedelta

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced
from support import eventually

from mesh import Agent, Context, Reject, Retry
from mesh.contract.cloudevents import MSG_ID


def failing_clerk(times=10**9, **options):
    """An agent that fails `times` times for each order, and when it was called."""
    agent = Agent("clerk")
    calls = []

    @agent.on(**options)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        calls.append((time.monotonic(), ctx.attempt))
        if ctx.attempt <= times:
            raise ZeroDivisionError("broken scales")
        return OrderAccepted(order_id=event.order_id)

    return agent, calls


async def put(stage, key, data, **headers):
    """Publishes bytes under the subject of OrderPlaced, as anybody could."""
    subject = stage.names.message("shop", "evt", "order_placed", key)
    await stage.mesh.connection.request(subject, data, {k.replace("_", "-"): v for k, v in headers.items()})


async def next_good_event_is_handled(stage):
    emitted = await stage.mesh.emit(OrderPlaced(order_id="good"))
    await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)


def good_clerk():
    agent = Agent("clerk")

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id, quantity=event.quantity)

    return agent


async def test_a_handler_that_always_raises_gets_max_attempts_with_growing_gaps_and_one_dead_letter(stage):
    agent, calls = failing_clerk(max_attempts=4)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7", quantity=2), id="order-7")
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        await eventually(lambda: stage.settled("shop", "clerk"))

    times = [moment for moment, _ in calls]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [attempt for _, attempt in calls] == [1, 2, 3, 4]
    assert gaps == sorted(gaps)
    assert len(await stage.dead_letters("shop")) == 1
    assert (letter.agent, letter.event_id, letter.entity) == ("clerk", "order-7", "order/7")
    assert (letter.code, letter.attempts, letter.error_type) == ("handler_failed", 4, "ZeroDivisionError")
    assert letter.reason == "broken scales"
    assert 'raise ZeroDivisionError("broken scales")' in letter.traceback
    assert letter.headers["ce-id"] == emitted.id
    assert letter.headers["ce-type"] == "shop.v1.OrderPlaced"
    assert OrderPlaced.FromString(letter.data) == OrderPlaced(order_id="7", quantity=2)
    (stored,) = await stage.messages("shop", "dead.clerk.order_placed.7")
    assert stored.headers["Nats-TTL"] == "never"


async def test_a_handler_that_recovers_is_not_dead_lettered_and_leaves_no_journal(stage):
    agent, calls = failing_clerk(times=2)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert [attempt for _, attempt in calls] == [1, 2, 3]
    assert not await stage.dead_letters("shop")
    assert not await stage.api.subjects(stage.names.journal_stream, ">")


async def test_a_rejected_event_is_dead_lettered_at_once(stage):
    agent = Agent("clerk")

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        raise Reject("we do not sell this")

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert (letter.code, letter.reason, letter.attempts) == ("rejected", "we do not sell this", 1)


async def test_asking_for_a_retry_does_not_count_as_an_attempt(stage):
    agent = Agent("clerk")
    attempts = []

    @agent.on(max_attempts=2)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        attempts.append(ctx.attempt)
        if len(attempts) < 5:
            raise Retry(after=timedelta(milliseconds=50))
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

    assert attempts == [1, 1, 1, 1, 1]


async def test_a_handler_that_takes_too_long_is_cancelled_and_tried_again(stage):
    agent = Agent("clerk")

    @agent.on(timeout=0.2)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        if ctx.attempt == 1:
            await asyncio.sleep(30)
        return OrderAccepted(order_id=event.order_id, quantity=ctx.attempt)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        answer = await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)

    assert answer.message.quantity == 2


async def test_a_handler_that_takes_longer_than_the_ack_wait_runs_once(stage):
    agent = Agent("clerk")
    runs = []

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        runs.append(ctx.event_id)
        await asyncio.sleep(5)
        return OrderAccepted(order_id=event.order_id)

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert stage.settings.stream.ack_wait < 5
    assert runs == [emitted.id]


async def test_garbage_bytes_become_a_dead_letter(stage):
    async with stage.running(good_clerk()):
        await put(stage, "7", b"\xff\xff\xff garbage", ce_id="g1")
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        await next_good_event_is_handled(stage)

    assert (letter.code, letter.attempts, letter.event_id) == ("undecodable", 0, "g1")
    assert letter.data == b"\xff\xff\xff garbage"


async def test_a_message_that_violates_its_constraints_becomes_a_dead_letter_without_its_values(stage):
    async with stage.running(good_clerk()):
        bad = OrderPlaced(order_id="7", quantity=-4711)
        await put(stage, "7", bad.SerializeToString(), ce_id="g1")
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        await next_good_event_is_handled(stage)

    assert letter.code == "invalid"
    assert "quantity must be greater than or equal to 0" in letter.reason
    assert "4711" not in letter.reason


async def test_a_message_under_the_key_of_another_entity_becomes_a_dead_letter(stage):
    async with stage.running(good_clerk()):
        await put(stage, "8", OrderPlaced(order_id="7").SerializeToString())
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        await next_good_event_is_handled(stage)

    assert (letter.code, letter.event_id) == ("invalid", f"{letter.stream}:{letter.stream_sequence}")


async def test_an_event_that_is_too_deep_in_a_causal_chain_becomes_a_dead_letter(stage):
    async with stage.running(good_clerk()):
        await put(stage, "7", OrderPlaced(order_id="7").SerializeToString(), ce_id="deep", mesh_hops="65")
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
        await put(stage, "8", OrderPlaced(order_id="8").SerializeToString(), ce_id="just", mesh_hops="64")
        await stage.mesh.wait_for(OrderAccepted, key="8")

    assert letter.code == "too_many_hops"
    assert "65 hops" in letter.reason


async def test_a_foreign_cloudevent_in_json_is_accepted_in_binary_mode(stage):
    async with stage.running(good_clerk()):
        data = json.dumps({"order_id": "7", "quantity": 3, "unknown": True}).encode()
        json_type = "application/json; charset=utf-8"
        await put(stage, "7", data, ce_id="f1", ce_source="/other", ce_datacontenttype=json_type)
        answer = await stage.mesh.wait_for(OrderAccepted, correlation_id="f1")

    assert answer.message.quantity == 3


async def test_a_foreign_cloudevent_in_json_is_accepted_in_structured_mode(stage):
    envelope = {"specversion": "1.0", "id": "f 1", "source": "/other", "data": {"orderId": "7", "quantity": 3}}

    async with stage.running(good_clerk()):
        await put(stage, "7", json.dumps(envelope).encode(), Content_Type="application/cloudevents+json")
        answer = await stage.mesh.wait_for(OrderAccepted, correlation_id="f 1")

    assert answer.causation_id == "f 1"


async def test_a_foreign_cloudevent_that_makes_no_sense_becomes_a_dead_letter(stage):
    async with stage.running(good_clerk()):
        await put(stage, "7", b"{not json", Content_Type="application/cloudevents+json")
        await put(stage, "8", b"<order/>", ce_datacontenttype="application/xml")
        await put(stage, "9", b"[1, 2]", ce_datacontenttype="application/json")
        await eventually(lambda: _three(stage))
        await next_good_event_is_handled(stage)

    assert {letter.code for letter in await stage.dead_letters("shop")} == {"undecodable"}


async def _three(stage):
    return len(await stage.dead_letters("shop")) == 3


async def test_a_message_without_any_header_is_handled_under_its_place_in_the_log(stage):
    async with stage.running(good_clerk()):
        await put(stage, "7", OrderPlaced(order_id="7").SerializeToString())
        answer = await stage.mesh.wait_for(OrderAccepted, key="7")

    assert answer.causation_id == answer.correlation_id == f"{stage.names.stream('shop')}:1"


@pytest.mark.parametrize("hops", ["-1", "many", "1e3", ""])
async def test_a_malformed_hop_count_counts_as_none(stage, hops):
    async with stage.running(good_clerk()):
        await put(stage, "7", OrderPlaced(order_id="7").SerializeToString(), mesh_hops=hops)
        await stage.mesh.wait_for(OrderAccepted, key="7")


async def test_a_delivery_under_a_subject_that_the_agent_does_not_read_is_dropped(stage):
    """A pull request may name any reply subject, so a message of one subject can turn up in place of another."""
    async with stage.running(good_clerk()) as worker:
        pull = worker._running[0]._pulls[0]
        await stage.mesh.emit(OrderPlaced(order_id="first"))
        await stage.mesh.wait_for(OrderAccepted, key="first")
        foreign = OrderPlaced(order_id="forged").SerializeToString()
        reply = f"$JS.ACK.{stage.names.stream('shop')}.clerk.1.999.999.1700000000000000000.0"
        await stage.mesh.connection._client.publish(f"{pull._inbox}.1", foreign, reply)
        await next_good_event_is_handled(stage)

    assert not await stage.subjects("shop", "evt.order_accepted.forged")


async def test_an_output_id_survives_a_redrive_so_that_nothing_happens_twice(stage):
    agent, _ = failing_clerk(times=1, max_attempts=1)
    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"), id="order-7")
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))
    async with stage.running(good_clerk()):
        redo = stage.names.redo("shop", "clerk", "order_placed", "7")
        for number in (1, 2):
            headers = dict(letter.headers) | {MSG_ID: f"order_placed:order-7/redo/{number}", "mesh-redo": str(number)}
            await stage.mesh.connection.request(redo, letter.data, headers)
        await stage.mesh.wait_for(OrderAccepted, correlation_id="order-7")
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert (await stage.counts("shop"))["evt.order_accepted"] == 1


async def test_agents_that_answer_each_other_for_ever_are_stopped_and_the_cycle_is_named(stage):
    ping, pong = Agent("ping"), Agent("pong")

    @ping.on
    async def serve(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    @pong.on
    async def strike_back(event: OrderAccepted, ctx: Context) -> OrderPlaced:
        return OrderPlaced(order_id=event.order_id)

    async with stage.running(ping, pong):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        (letter,) = await eventually(lambda: stage.dead_letters("shop"))

    assert (letter.code, letter.agent, letter.attempts) == ("loop", "ping", 0)
    assert "ping has handled shop.order_placed 7 8 times" in letter.reason
    assert letter.reason.endswith("ping/order_placed/7 -> pong/order_accepted/7")
    assert (await stage.counts("shop"))["evt.order_placed"] == 1 + 8
