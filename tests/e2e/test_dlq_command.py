"""`mesh dlq`: dead letters listed, shown, redriven, discarded."""

import pytest
from commands import document, error, mesh
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced
from support import eventually

from mesh import Agent, Reject


def picky(name):
    """An agent that accepts orders with a quantity, and fails in two ways."""
    agent = Agent(name)

    @agent.on(max_attempts=1)
    async def decide(event: OrderPlaced, ctx) -> OrderAccepted:
        if event.order_id == "0":
            raise ValueError("zero")
        if not event.quantity:
            raise Reject("nothing was ordered")
        return OrderAccepted(order_id=event.order_id, quantity=event.quantity)

    return agent


async def give_up(stage, *names, orders):
    async with stage.running(*map(picky, names)):
        for order in orders:
            await stage.mesh.emit(OrderPlaced(order_id=order, email="ann@example.com"), id=f"place-{order}")
        for name in names:
            await eventually(lambda: stage.settled("shop", name))  # noqa: B023 - awaited in the same round


def groups(stage, *arguments):
    listed = document(mesh(stage, "dlq", "ls", "--json", *arguments))
    return [(group["agent"], group["event"], group["error"], group["count"]) for group in listed]


async def test_dead_letters_are_listed_by_agent_event_and_error(stage):
    await give_up(stage, "clerk", "other", orders=["0", "1", "2"])

    assert groups(stage) == [
        ("clerk", "shop.order_placed", "handler_failed ValueError", 1),
        ("clerk", "shop.order_placed", "rejected", 2),
        ("other", "shop.order_placed", "handler_failed ValueError", 1),
        ("other", "shop.order_placed", "rejected", 2),
    ]
    assert len(groups(stage, "--agent", "clerk")) == 2
    every = document(mesh(stage, "dlq", "ls", "--all", "--json"))
    assert sorted((one["agent"], one["id"]) for one in every) == [
        (agent, f"place-{order}") for agent in ("clerk", "other") for order in "012"
    ]
    header, first, *_ = mesh(stage, "dlq", "ls").stdout.splitlines()
    assert header.split() == ["agent", "event", "error", "count", "oldest", "newest", "example"]
    assert first.split()[:5] == ["clerk", "shop.order_placed", "handler_failed", "ValueError", "1"]


async def test_no_dead_letters_are_no_failure(stage):
    assert document(mesh(stage, "dlq", "ls", "--json")) == []
    assert mesh(stage, "dlq", "ls").stdout == "there are no dead letters\n"
    assert document(mesh(stage, "dlq", "redrive", "--all", "--json")) == []


async def test_a_dead_letter_is_shown_with_reason_traceback_headers_and_masked_payload(stage):
    await give_up(stage, "clerk", orders=["0"])

    (shown,) = document(mesh(stage, "dlq", "show", "place-0", "--json"))
    printed = mesh(stage, "dlq", "show", "place-0", "--show-pii").stdout

    assert (shown["code"], shown["error_type"], shown["reason"]) == ("handler_failed", "ValueError", "zero")
    assert (shown["attempts"], shown["redrives"], shown["entity"]) == (1, 0, "order/0")
    assert shown["headers"]["ce-id"] == "place-0"
    assert shown["data"] == {"order_id": "0", "email": "***"}
    assert "ValueError: zero" in shown["traceback"]
    assert '"email": "ann@example.com"' in printed
    assert "ValueError: zero" in printed


async def test_a_corrected_payload_is_accepted_by_the_agent(stage):
    await give_up(stage, "clerk", orders=["7"])

    wrong = mesh(stage, "dlq", "redrive", "place-7", "--payload", '{"order_id": "8"}', "--json")
    right = mesh(stage, "dlq", "redrive", "place-7", "--payload", '{"order_id": "7", "quantity": 3}', "--json")

    assert (wrong.returncode, error(wrong)["code"]) == (1, "other_key")
    expected = {"id": "place-7", "agent": "clerk", "event": "shop.order_placed", "outcome": "redriven"}
    assert document(right) == [expected]
    assert groups(stage) == []
    async with stage.running(picky("clerk")):
        accepted = await stage.mesh.wait_for(OrderAccepted, correlation_id="place-7")
    assert accepted.message == OrderAccepted(order_id="7", quantity=3)


async def test_all_dead_letters_of_an_agent_are_redriven_and_no_other(stage):
    await give_up(stage, "clerk", "other", orders=["1", "2", "3"])

    outcomes = document(mesh(stage, "dlq", "redrive", "--agent", "clerk", "--type", "OrderPlaced", "--json"))

    assert sorted(outcome["id"] for outcome in outcomes) == ["place-1", "place-2", "place-3"]
    assert groups(stage) == [("other", "shop.order_placed", "rejected", 3)]


async def test_what_is_discarded_is_gone(stage):
    await give_up(stage, "clerk", "other", orders=["1", "2"])

    unsure = mesh(stage, "dlq", "discard", "--all")
    mesh(stage, "dlq", "discard", "place-1", "--agent", "clerk", "--yes")

    assert unsure.returncode == 2
    assert groups(stage) == [
        ("clerk", "shop.order_placed", "rejected", 1),
        ("other", "shop.order_placed", "rejected", 2),
    ]
    assert len(document(mesh(stage, "dlq", "discard", "--all", "--yes", "--json"))) == 3
    assert groups(stage) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("redrive",), 2, "usage"),
        (("redrive", "place-1", "--all"), 2, "usage"),
        (("redrive", "--agent", "clerk", "--payload", "{}"), 2, "usage"),
        (("redrive", "place-1"), 1, "ambiguous"),
        (("discard", "place-1", "--yes"), 1, "ambiguous"),
        (("show", "place-1"), 1, "ambiguous"),
        (("show", "place-9"), 1, "not_found"),
        (("redrive", "--all", "--type", "OrderLost"), 1, "not_found"),
    ],
)
async def test_an_unclear_command_changes_nothing_and_says_why(stage, arguments, exit_code, code):
    await give_up(stage, "clerk", "other", orders=["1", "2"])

    result = mesh(stage, "dlq", *arguments, "--json")

    assert (result.returncode, result.stdout, error(result)["code"]) == (exit_code, "", code)
    assert len(await stage.dead_letters("shop")) == 4
