"""`mesh tail`, `mesh show`, `mesh agents`: what people see of the log and of those who write it."""

import json
import re
import signal

import pytest
from commands import ROOT, document, error, mesh
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced
from support import eventually

from mesh import Agent, Reject


def shop():
    """An agent that accepts orders with a quantity, and rejects those without."""
    agent = Agent("clerk", description="Accepts orders", version="1.2")

    @agent.on
    async def decide(event: OrderPlaced, ctx) -> OrderAccepted:
        if not event.quantity:
            raise Reject(f"nothing was ordered\x1b[31m by {event.order_id}")
        return OrderAccepted(order_id=event.order_id, quantity=event.quantity)

    return agent


@pytest.fixture
async def traded(stage):
    """Two orders: one that is accepted, one that is a dead letter."""
    async with stage.running(shop()):
        await stage.mesh.emit(OrderPlaced(order_id="7", quantity=2, email="ann@example.com"), id="good")
        await stage.mesh.emit(OrderPlaced(order_id="8"), id="bad")
        await eventually(lambda: stage.settled("shop", "clerk"))
    return stage


def columns(result):
    """The lines of a table, or of the tail, as their columns; without the time, which comes first in the tail."""
    assert result.returncode == 0, result.stderr
    return [re.split(r" {2,}", line.strip()) for line in result.stdout.splitlines()]


async def test_the_tail_prints_an_event_per_line_without_personal_data(traded):
    lines = sorted(line[1:] for line in columns(mesh(traded, "tail", "--since", "all", "--limit", 4)))

    stream = traded.names.stream("shop")
    accepted, good, bad, rejected = lines
    assert good == ["shop.order_placed", "order/7", "-", f"{stream}:1", '{"quantity": 2, "email": "***"}']
    assert bad[:3] + bad[4:] == ["shop.order_placed", "order/8", "-", "{}"]
    assert accepted[:3] + accepted[4:] == ["shop.order_accepted", "order/7", "clerk", '{"quantity": 2}']
    assert rejected[:3] == ["shop.order_placed", "order/8", "clerk"]
    assert rejected[4] == "dead letter of bad: rejected: nothing was ordered\\x1b[31m by 8"


async def test_the_tail_prints_a_json_document_per_line(traded):
    result = mesh(traded, "tail", "--since", "1h", "--key", "7", "--limit", 2, "--json", "--show-pii")

    placed, accepted = map(json.loads, result.stdout.splitlines())
    assert placed["data"] == {"order_id": "7", "quantity": 2, "email": "ann@example.com"}
    assert (placed["type"], placed["id"], placed["seq"]) == ("shop.v1.OrderPlaced", "good", 1)
    assert (accepted["agent"], accepted["causation_id"], accepted["correlation_id"]) == ("clerk", "good", "good")


async def test_the_tail_needs_no_schema_here_and_takes_a_type_by_its_short_name(traded):
    result = mesh(
        traded, "tail", "--since", "all", "--type", "OrderAccepted", "--limit", 1, "--json", PYTHONPATH=str(ROOT)
    )

    assert document(result)["data"] == {"order_id": "7", "quantity": 2}


async def test_the_tail_follows_until_it_is_interrupted(stage, start):
    tail = start("tail", "--since", "all", "--json", env=stage.environment)
    await stage.mesh.emit(OrderPlaced(order_id="7"))
    await tail.prints('"key": "7"')
    await stage.mesh.emit(OrderPlaced(order_id="8"))
    await tail.prints('"key": "8"')

    tail.signal(signal.SIGINT)

    assert await tail.code() == 130
    assert "Traceback" not in tail.printed


@pytest.mark.parametrize(
    "arguments", [("--since", "yesterday"), ("--type", "shop.v1.Stock"), ("--limit", "0"), ("--since", "0x")]
)
async def test_a_tail_of_nothing_that_exists_is_a_wrong_command_line(stage, arguments):
    assert mesh(stage, "tail", *arguments).returncode == 2


async def test_an_event_is_shown_with_its_headers_and_what_it_caused(traded):
    shown = document(mesh(traded, "show", "good", "--json"))

    assert shown["data"] == {"order_id": "7", "quantity": 2, "email": "***"}
    assert shown["headers"]["ce-subject"] == "order/7"
    assert [(effect["type"], effect["agent"]) for effect in shown["effects"]] == [("shop.v1.OrderAccepted", "clerk")]

    place = f"{traded.names.stream('shop')}:1"
    for wanted in ("good", place):
        printed = mesh(traded, "show", wanted).stdout
        assert "/clients, which is no agent" in printed
        assert '"email": "***"' in printed
        assert "shop.order_accepted" in printed.splitlines()[-1]


async def test_a_dead_letter_is_shown_with_the_event_that_was_given_up_and_without_its_payload(traded):
    shown = document(mesh(traded, "show", "bad", "--json"))

    (dead,) = shown["effects"]
    assert (dead["type"], dead["data"]["code"]) == ("mesh.v1.DeadLetter", "rejected")
    assert "data" not in dead["data"]


async def test_an_event_that_does_not_exist_is_not_found(traded):
    result = mesh(traded, "show", "ugly", "--json")

    assert (result.returncode, result.stdout, error(result)["object"]) == (1, "", "ugly")


async def test_agents_are_listed_with_what_runs_them_and_what_waits_for_them(traded):
    await traded.mesh.emit(OrderPlaced(order_id="9", quantity=1))

    header, clerk = columns(mesh(traded, "agents"))
    (listed,) = document(mesh(traded, "agents", "--json"))

    assert header == ["agent", "state", "processes", "lag", "handled", "failed", "dead"]
    assert clerk == ["clerk", "stopped", "0", "1", "0", "0", "0"]
    assert (listed["agent"], listed["description"], listed["version"]) == ("clerk", "Accepts orders", "1.2")
    assert (listed["state"], listed["lag"], listed["processes"]) == ("stopped", 1, [])
    assert (listed["handles"], listed["emits"]) == (["shop.v1.OrderPlaced"], ["shop.v1.OrderAccepted"])
    assert listed["durables"] == [
        {"stream": traded.names.stream("shop"), "durable": "clerk", "pending": 1, "unsettled": 0, "settled": 2}
    ]


async def test_watching_agents_shows_the_deliveries_settled_per_second(stage, start):
    async with stage.running(shop()):
        watch = start("agents", "--watch", "--json", env=stage.environment)
        await watch.prints('"clerk"')
        await stage.mesh.emit(OrderPlaced(order_id="7", quantity=1))
        await watch.prints('"settled": 1')
        watch.signal(signal.SIGINT)
        assert await watch.code() == 130

    looks = [json.loads(line)[0] for line in watch.printed.splitlines()]
    assert looks[0]["rate"] is None
    assert [look["rate"] > 0 for look in looks[1:]].count(True) == 1
    assert (looks[0]["state"], len(looks[0]["processes"])) == ("running", 1)


async def test_a_running_agent_is_retired_by_force_only(stage):
    async with stage.running(shop()):
        await eventually(lambda: "running" in mesh(stage, "agents").stdout)
        refused = mesh(stage, "agents", "rm", "clerk", "--yes")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "is running" in refused.stderr

        assert mesh(stage, "agents", "rm", "clerk", "--yes", "--force").returncode == 0


async def test_a_stopped_agent_is_retired_after_a_confirmation(traded):
    await traded.mesh.emit(OrderPlaced(order_id="9", quantity=1))

    unsure = mesh(traded, "agents", "rm", "clerk")
    retired = mesh(traded, "agents", "rm", "clerk", "--yes")
    gone = mesh(traded, "agents", "rm", "clerk", "--yes")

    assert (unsure.returncode, gone.returncode) == (2, 1)
    assert retired.stdout.splitlines() == [
        f"{traded.names.stream('shop')}/clerk: 1 events are not settled",
        "clerk is retired",
    ]
    assert document(mesh(traded, "agents", "--json")) == []


@pytest.mark.parametrize("command", [("tail",), ("show", "a"), ("agents",), ("agents", "rm", "a"), ("dlq", "ls")])
async def test_without_a_server_the_exit_code_is_3(stage, command):
    nowhere = {"MESH_NATS__URL": "nats://127.0.0.1:1", "MESH_NATS__CONNECT_TIMEOUT": "0.2"}

    assert mesh(stage, *command, **nowhere).returncode == 3
