"""Reading the log: scans, the tail, finding events, dead letters, agents."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, PackOrder
from support import eventually

from mesh import Agent, MeshError, NotFound, Refused, Reject
from mesh.agent.deliver import Start
from mesh.contract.generated import event_type
from mesh.jetstream.scan import scan
from mesh.query.agents import Agents
from mesh.query.dead_letters import DeadLetters
from mesh.query.domains import domain_streams
from mesh.query.find import Finder
from mesh.query.follow import Follower, Selection


async def place(stage, *orders, **fields):
    return [await stage.mesh.emit(OrderPlaced(order_id=order, **fields), id=f"place-{order}") for order in orders]


def stubborn(name="clerk", **options):
    """An agent that rejects every order, and what it was handed."""
    agent, seen = Agent(name), []

    @agent.on(**options)
    async def refuse(event: OrderPlaced, ctx) -> OrderAccepted | None:
        seen.append((ctx.event_id, event.quantity))
        if event.quantity != 99:
            raise Reject(f"order {event.order_id} is not for {name}")
        return OrderAccepted(order_id=event.order_id)

    return agent, seen


async def scanned(stage, below, **options):
    filters = [f"{stage.names.name}.shop.{below}"]
    async with scan(stage.mesh.connection, stage.names.stream("shop"), filters, **options) as messages:
        return [stored async for stored in messages]


async def test_a_scan_reads_all_there_is_in_order_and_ends(stage):
    await asyncio.gather(*(place(stage, str(n)) for n in range(1203)))

    found = await scanned(stage, "evt.>")

    assert [stored.sequence for stored in found] == list(range(1, 1204))
    assert {OrderPlaced.FromString(stored.data).order_id for stored in found} == {str(n) for n in range(1203)}


async def test_a_scan_of_messages_that_do_not_fit_into_one_batch_reads_all_of_them(stage):
    large = b"x" * 900_000
    await place(stage, *map(str, range(45)), attachment=large)

    found = await scanned(stage, "evt.>")

    assert [len(OrderPlaced.FromString(stored.data).attachment) for stored in found] == [len(large)] * 45


async def test_a_scan_ends_where_the_stream_ended_when_it_began(stage):
    await place(stage, "1", "2")
    connection, stream = stage.mesh.connection, stage.names.stream("shop")

    async with scan(connection, stream, [f"{stage.names.name}.shop.>"]) as messages:
        await place(stage, "3")
        found = [stored.sequence async for stored in messages]

    assert found == [1, 2]


async def test_a_scan_is_not_kept_waiting_by_messages_that_were_deleted_meanwhile(stage):
    await place(stage, "1", "2", "3")
    connection, stream = stage.mesh.connection, stage.names.stream("shop")

    async with scan(connection, stream, [f"{stage.names.name}.shop.>"]) as messages:
        await stage.api.call(f"STREAM.MSG.DELETE.{stream}", {"seq": 3})
        found = [stored.sequence async for stored in messages]

    assert found == [1, 2]


async def test_a_scan_begins_behind_a_sequence_or_at_a_time_and_may_leave_the_payloads_out(stage):
    await place(stage, "1", "2", "3")

    assert [stored.sequence for stored in await scanned(stage, "evt.>", after=2)] == [3]
    assert await scanned(stage, "evt.>", after=3) == []
    assert await scanned(stage, "evt.>", start=Start("by_start_time", datetime.now(UTC) + timedelta(hours=1))) == []
    (first, *_) = await scanned(stage, "evt.>", headers_only=True)
    assert (first.data, first.headers["ce-id"]) == (b"", "place-1")


async def test_a_scan_leaves_no_consumer_behind(stage):
    await place(stage, "1", "2")
    await scanned(stage, "evt.>")

    consumers = await stage.api.call(f"CONSUMER.NAMES.{stage.names.stream('shop')}")

    assert consumers["total"] == 0


async def test_a_scan_of_a_stream_that_does_not_exist_is_refused(stage):
    with pytest.raises(Refused, match="stream not found"):
        await scanned(stage, "evt.>")


async def test_the_domains_of_a_namespace_are_those_of_its_streams_and_of_no_other(stage):
    assert await domain_streams(stage.mesh.connection, stage.names) == {}

    await place(stage, "1")
    await stage.mesh.emit(InvoiceRequested(invoice_number=1))
    foreign = {"name": f"{stage.names.stream('foreign')}", "subjects": [f"{stage.names.name}.foreign.only"]}
    await stage.api.call(f"STREAM.CREATE.{foreign['name']}", foreign)

    assert await domain_streams(stage.mesh.connection, stage.names) == {
        "billing": stage.names.stream("billing"),
        "shop": stage.names.stream("shop"),
    }


@asynccontextmanager
async def following(stage, since="all", **selection):
    follower = Follower(stage.mesh.connection, stage.names, Selection(**selection), Start(since))
    async with follower.open() as records:
        yield records


async def take(records, number):
    async with asyncio.timeout(20):
        return [await anext(records) for _ in range(number)]


async def test_the_tail_reads_all_domains(stage):
    await place(stage, "1")
    await stage.mesh.emit(InvoiceRequested(invoice_number=7))
    await stage.mesh.send(PackOrder(order_id="1"))

    async with following(stage) as records:
        found = await take(records, 3)

    assert {(record.type, record.key) for record in found} == {
        ("shop.v1.OrderPlaced", "1"),
        ("shop.v1.PackOrder", "1"),
        ("billing.v1.InvoiceRequested", "7"),
    }


async def test_the_tail_of_what_is_new_leaves_out_what_is_old(stage):
    await place(stage, "1")

    async with following(stage, since="new") as records:
        await place(stage, "2")
        (record,) = await take(records, 1)

    assert record.key == "2"


async def test_the_tail_reads_a_domain_that_comes_into_being_from_its_first_event(stage):
    await place(stage, "1")

    async with following(stage, since="new") as records:
        await stage.mesh.emit(InvoiceRequested(invoice_number=7))
        (record,) = await take(records, 1)

    assert record.message.invoice_number == 7


async def test_the_tail_decodes_without_generated_code(stage):
    await place(stage, "1", quantity=3)

    async with following(stage) as records:
        (record,) = await take(records, 1)

    assert not isinstance(record.message, OrderPlaced)
    assert record.data() == {"order_id": "1", "quantity": 3}


async def test_the_tail_goes_on_behind_messages_that_are_none_of_ours(stage):
    await place(stage, "1")
    for subject, data in [("evt.unheard_of.9", b"\xff"), ("evt.order_placed.9", b"\xff\xff"), ("odd", b"")]:
        await stage.mesh.connection.request(f"{stage.names.name}.shop.{subject}", data)
    await place(stage, "2")

    async with following(stage) as records:
        found = await take(records, 4)

    assert [(record.key, record.message is None, record.size) for record in found if record.message is None] == [
        ("9", True, 1),
        ("9", True, 2),
    ]
    assert [record.key for record in found] == ["1", "9", "9", "2"]


PLACED, ACCEPTED, DEAD = "shop.v1.OrderPlaced", "shop.v1.OrderAccepted", "mesh.v1.DeadLetter"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"key": "2"}, [(ACCEPTED, "2"), (PLACED, "2"), ("shop.v1.PackOrder", "2")]),
        ({"agent": "clerk"}, [(DEAD, "3"), (ACCEPTED, "1"), (ACCEPTED, "2")]),
        ({"correlation_id": "place-2"}, [(ACCEPTED, "2"), (PLACED, "2")]),
        ({"type": event_type(OrderPlaced)}, [(DEAD, "3"), (PLACED, "1"), (PLACED, "2"), (PLACED, "3")]),
        ({"type": event_type(OrderPlaced), "key": "3", "domain": "shop"}, [(DEAD, "3"), (PLACED, "3")]),
    ],
)
async def test_the_tail_shows_what_is_selected_only(stage, selection, expected):
    agent, _ = stubborn()
    await place(stage, "1", "2", quantity=99)
    await place(stage, "3")
    async with stage.running(agent):
        await eventually(lambda: stage.settled("shop", "clerk"))
    await stage.mesh.send(PackOrder(order_id="2"))

    async with following(stage, **selection) as records:
        found = await take(records, len(expected))

    assert sorted((record.type, record.key) for record in found) == expected


def finder(stage):
    return Finder(stage.mesh.connection, stage.names)


async def test_an_event_is_found_by_its_place_and_by_its_id(stage):
    (first, second) = await place(stage, "1", "2")
    made = await stage.mesh.emit(InvoiceRequested(invoice_number=7))
    shop, billing = stage.names.stream("shop"), stage.names.stream("billing")

    for event_id, stream, seq in [
        (first.id, shop, 1),
        (f"{shop}:2", shop, second.seq),
        (made.id, billing, made.seq),
        (f"{billing}:1", billing, made.seq),
    ]:
        found, stored = await finder(stage).event(event_id)
        assert (found, stored.sequence) == (stream, seq)
        assert stored.data


async def test_an_event_is_found_although_the_clock_of_its_sender_is_wrong(stage):
    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)
    digits = f"{tomorrow:012x}"
    event_id = f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
    await stage.mesh.emit(OrderPlaced(order_id="1"), id=event_id)

    _, stored = await finder(stage).event(event_id)

    assert OrderPlaced.FromString(stored.data).order_id == "1"


async def test_an_event_without_an_id_is_found_by_its_place(stage):
    await place(stage, "1")
    await stage.mesh.connection.request(f"{stage.names.name}.shop.evt.order_placed.2", b"")

    _, stored = await finder(stage).event(f"{stage.names.stream('shop')}:2")

    assert stored.subject.endswith(".2")


@pytest.mark.parametrize("event_id", ["nothing", "01a1fcc7-5357-7a4b-933c-a2e5cd9fcbd4", "NO_STREAM:1", "{shop}:99"])
async def test_an_event_that_is_not_there_is_not_found(stage, event_id):
    await place(stage, "1")

    with pytest.raises(NotFound):
        await finder(stage).event(event_id.format(shop=stage.names.stream("shop")))


async def test_the_effects_of_an_event_are_found_in_all_domains_with_its_dead_letters(stage):
    generous, strict = Agent("generous"), Agent("strict")

    @generous.on
    async def accept(event: OrderPlaced, ctx) -> tuple[OrderAccepted, InvoiceRequested]:
        return OrderAccepted(order_id=event.order_id), InvoiceRequested(invoice_number=int(event.order_id))

    @strict.on
    async def refuse(event: OrderPlaced, ctx) -> None:
        raise Reject("never")

    await place(stage, "1", "2")
    async with stage.running(generous, strict):
        await eventually(lambda: stage.settled("shop", "generous"))
        await eventually(lambda: stage.settled("shop", "strict"))
    stream, cause = await finder(stage).event("place-2")

    effects = await finder(stage).effects("place-2", stream, cause)

    assert sorted(stored.subject.removeprefix(stage.names.name) for _, stored in effects) == [
        ".billing.evt.invoice_requested.2",
        ".shop.dead.strict.order_placed.2",
        ".shop.evt.order_accepted.2",
    ]


def dead_letters(stage):
    return DeadLetters(stage.mesh.connection, stage.names)


async def listed(stage):
    return [dead async for dead in dead_letters(stage).all()]


async def buried(stage, number):
    """The dead letters, once there are so many."""

    async def found():
        letters = await listed(stage)
        return letters if len(letters) == number else None

    return await eventually(found)


async def test_a_dead_letter_is_shown_with_its_event(stage):
    agent, _ = stubborn()
    async with stage.running(agent):
        await place(stage, "7", quantity=3, email="ann@example.com")
        (dead,) = await buried(stage, 1)

    event = await dead_letters(stage).event(dead)

    assert (dead.label, dead.error, dead.letter.agent) == ("shop.order_placed", "rejected", "clerk")
    assert (event.id, event.key) == ("place-7", "7")
    assert event.data() == {"order_id": "7", "quantity": 3, "email": "***"}


async def test_a_redrive_reaches_its_agent_alone_with_the_id_of_the_event_and_removes_the_dead_letter(stage):
    (clerk, to_clerk), (other, to_other) = stubborn("clerk"), stubborn("other")
    async with stage.running(clerk, other):
        await place(stage, "7")
        await buried(stage, 2)
        (dead,) = await dead_letters(stage).find(["place-7"], "clerk")

        committed = await dead_letters(stage).redrive(dead)

        await eventually(lambda: len(to_clerk) == 2)
        await buried(stage, 2)

    assert not committed.duplicate
    assert to_clerk == [("place-7", 0)] * 2
    assert to_other == [("place-7", 0)]
    (again,) = await dead_letters(stage).find(["place-7"], "clerk")
    assert (again.letter.redrives, again.seq > dead.seq) == (1, True)


async def test_one_event_can_be_redriven_for_several_agents_at_the_same_time(stage):
    (clerk, to_clerk), (other, to_other) = stubborn("clerk"), stubborn("other")
    async with stage.running(clerk, other):
        await place(stage, "7")
        for dead in await buried(stage, 2):
            assert not (await dead_letters(stage).redrive(dead)).duplicate
        await eventually(lambda: len(to_clerk) == len(to_other) == 2)


async def test_a_redrive_that_was_interrupted_before_the_dead_letter_was_removed_is_no_second_one(stage):
    agent, seen = stubborn()
    async with stage.running(agent):
        await place(stage, "7")
        (dead,) = await buried(stage, 1)
        assert not (await dead_letters(stage).redrive(dead)).duplicate
        await eventually(lambda: len(seen) == 2)

        assert (await dead_letters(stage).redrive(dead)).duplicate

        (again,) = await buried(stage, 1)
        assert not (await dead_letters(stage).redrive(again)).duplicate
        await eventually(lambda: len(seen) == 3)
    assert len(seen) == 3


async def test_a_corrected_payload_takes_the_place_of_the_one_that_was_given_up(stage):
    agent, seen = stubborn()
    async with stage.running(agent):
        await place(stage, "7")
        (dead,) = await buried(stage, 1)
        corrected = await dead_letters(stage).corrected(dead, '{"order_id": "7", "quantity": 99}')

        await dead_letters(stage).redrive(dead, corrected)

        record = await stage.mesh.wait_for(OrderAccepted, correlation_id="place-7")
        assert await listed(stage) == []
    assert record.causation_id == "place-7"
    assert seen == [("place-7", 0), ("place-7", 99)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ('{"order_id": "8"}', "other_key"),
        ('{"order_id": "7", "quantity": -1}', "invalid"),
        ('{"order_id": "7", "amount": 1}', "unknown_field"),
        ('{"order_id": "7", "quantity": "many"}', "bad_value"),
        ("{", "bad_json"),
    ],
)
async def test_a_corrected_payload_must_fit_the_contract_and_keep_the_key(stage, payload, code):
    agent, _ = stubborn()
    async with stage.running(agent):
        await place(stage, "7")
        (dead,) = await buried(stage, 1)

    with pytest.raises(MeshError) as refusal:
        await dead_letters(stage).corrected(dead, payload)

    assert refusal.value.code == code


async def test_a_payload_that_was_too_large_for_its_dead_letter_comes_from_the_stream(stage):
    agent, seen = stubborn()
    async with stage.running(agent):
        await place(stage, "7", quantity=5, attachment=b"x" * 1_045_500)
        (dead,) = await buried(stage, 1)
        assert dead.letter.data_omitted
        assert (await dead_letters(stage).event(dead)).message.quantity == 5

        await dead_letters(stage).redrive(dead)

        await eventually(lambda: len(seen) == 2)
    assert seen == [("place-7", 5)] * 2


async def test_a_payload_that_is_nowhere_any_more_is_missed_and_its_dead_letter_stays(stage):
    agent, _ = stubborn()
    async with stage.running(agent):
        await place(stage, "7", attachment=b"x" * 1_045_500)
        (dead,) = await buried(stage, 1)
    await stage.api.call(f"STREAM.MSG.DELETE.{stage.names.stream('shop')}", {"seq": 1})

    assert await dead_letters(stage).event(dead) is None
    with pytest.raises(NotFound) as refusal:
        await dead_letters(stage).redrive(dead)

    assert refusal.value.code == "payload_gone"
    assert await listed(stage) == [dead]


async def test_an_event_that_came_without_an_id_is_redriven_under_the_id_it_was_given(stage):
    agent, seen = stubborn()
    async with stage.running(agent):
        await stage.mesh.connection.request(
            f"{stage.names.name}.shop.evt.order_placed.7", OrderPlaced(order_id="7").SerializeToString()
        )
        (dead,) = await buried(stage, 1)
        await dead_letters(stage).redrive(dead)
        await eventually(lambda: len(seen) == 2)

    place_in_log = f"{stage.names.stream('shop')}:1"
    assert [event_id for event_id, _ in seen] == [place_in_log, place_in_log]


async def test_a_discarded_dead_letter_is_gone_and_discarding_it_again_changes_nothing(stage):
    agent, seen = stubborn()
    async with stage.running(agent):
        await place(stage, "7")
        (dead,) = await buried(stage, 1)

    await dead_letters(stage).discard(dead)
    await dead_letters(stage).discard(dead)

    assert await listed(stage) == []
    assert len(seen) == 1


async def test_an_event_that_several_agents_gave_up_needs_the_name_of_one(stage):
    async with stage.running(stubborn("clerk")[0], stubborn("other")[0]):
        await place(stage, "7")
        await buried(stage, 2)

    with pytest.raises(NotFound, match="clerk, other") as refusal:
        await dead_letters(stage).find(["place-7"])

    assert refusal.value.code == "ambiguous"
    assert [dead.letter.agent for dead in await dead_letters(stage).find(["place-7"], "other")] == ["other"]
    with pytest.raises(NotFound, match="place-8"):
        await dead_letters(stage).find(["place-7", "place-8"], "other")


def agents(stage):
    return Agents(stage.mesh.connection, stage.names)


async def test_nobody_is_declared_before_an_agent_has_started(stage):
    assert await agents(stage).all() == []
    with pytest.raises(NotFound):
        await agents(stage).get("clerk")


async def test_an_agent_runs_while_it_has_a_process(stage):
    agent, _ = stubborn()
    async with stage.running(agent):
        status = await eventually(lambda: _running(stage))
        with pytest.raises(Refused, match="is running"):
            status.check_stopped()

    stopped = await agents(stage).get("clerk")
    assert (status.state, len(status.processes), stopped.state) == ("running", 1, "stopped")
    stopped.check_stopped()


async def _running(stage):
    status = await agents(stage).get("clerk")
    return status if status.processes else None


async def test_the_lag_counts_what_is_not_settled_whether_it_was_delivered_or_not(stage):
    busy, entered, leave = Agent("busy"), asyncio.Event(), asyncio.Event()

    @busy.on(concurrency=1)
    async def wait(event: OrderPlaced, ctx) -> None:
        entered.set()
        await leave.wait()

    @busy.on(isolated=True)
    async def pack(event: PackOrder, ctx) -> None: ...

    async with stage.running(busy):
        await place(stage, "1", "2", "3")
        await stage.mesh.send(PackOrder(order_id="1"))
        await entered.wait()
        await eventually(lambda: stage.settled("shop", "busy--pack_order"))
        status = await agents(stage).get("busy")
        leave.set()
        await eventually(lambda: stage.settled("shop", "busy"))

    assert (status.lag, status.settled) == (3, 1)
    assert sorted(backlog.durable for backlog in status.backlogs) == ["busy", "busy--pack_order"]
    after = await agents(stage).get("busy")
    assert (after.lag, after.settled) == (0, 4)


async def test_a_retired_agent_leaves_its_events_and_frees_its_commands(stage):
    first, second = Agent("first"), Agent("second")
    for agent in (first, second):

        @agent.on
        async def pack(event: PackOrder, ctx) -> None: ...

    async with stage.running(first):
        await stage.mesh.send(PackOrder(order_id="1"))
        await eventually(lambda: stage.settled("shop", "first"))

    await agents(stage).retire(await agents(stage).get("first"))

    assert await agents(stage).all() == []
    with pytest.raises(Refused, match="consumer not found"):
        await stage.consumer("shop", "first")
    async with stage.running(second):
        assert [status.declaration.name for status in await agents(stage).all()] == ["second"]
    assert await stage.counts("shop") == {"cmd.pack_order": 1}
