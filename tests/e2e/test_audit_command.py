"""`mesh audit`: totals, violations that a person can look at, exit codes."""

import json
import re

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from commands import document, error, mesh
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced
from support import eventually

from mesh import Agent, Reject

INVARIANTS = ["duplicate id", "orphan cause", "double commit", "decision gap", "lost output", "shared command"]


@pytest.fixture
async def traded(stage):
    """Orders that were accepted, one that is dead, and one that waits for an agent that does not run."""
    clerk, idle = Agent("clerk"), Agent("auditor-of-all-that-is-put-on-the-shelves")

    @clerk.on(emits=[InvoiceRequested])
    async def accept(event: OrderPlaced, ctx) -> OrderAccepted:
        if not event.quantity:
            raise Reject("nothing was ordered")
        ctx.emit(InvoiceRequested(invoice_number=int(event.order_id)))
        return OrderAccepted(order_id=event.order_id)

    @idle.on
    async def check(event: OrderAccepted, ctx) -> None:
        pass

    async with stage.running(idle):
        pass
    async with stage.running(clerk):
        for order in range(4):
            await stage.mesh.emit(OrderPlaced(order_id=str(order), quantity=order), id=f"place-{order}")
        await eventually(lambda: stage.settled("shop", "clerk"))
    return stage


async def break_it(stage, **headers):
    """Writes a second event with the id of another one."""
    subject = stage.names.message("shop", "evt", "order_placed", "9")
    await stage.mesh.connection.request(subject, b"", {"ce-id": "place-1"} | headers)


async def test_a_sound_log_is_counted_by_domain_and_agent(traded):
    result = mesh(traded, "audit")

    assert (result.returncode, result.stderr) == (0, "")
    billing, shop, broken = (block.splitlines() for block in result.stdout.split("\n\n"))
    assert billing == [f"billing: 3 events in {traded.names.stream('billing')}"]
    assert shop[0] == f"shop: 7 events in {traded.names.stream('shop')}"
    assert [line.split() for line in shop[1:]] == [
        ["agent", "handled", "answered", "dead", "pending"],
        ["auditor-of-all-that-is-put-on-the-shelves", "0", "0", "0", "3"],
        ["clerk", "3", "3", "1", "0"],
    ]
    assert [line.rstrip() for line in broken[1:]] == [f"{name:<14}      0" for name in INVARIANTS]
    assert max(map(len, result.stdout.splitlines())) <= 100


async def test_every_violation_is_a_line_with_a_place_that_can_be_shown(traded):
    await break_it(traded, **{"ce-source": "/somewhere\x1b[31m"})

    result = mesh(traded, "audit")

    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if "place-1" in line]
    assert line.startswith("  duplicate id    ")
    place, _, finding = line.removeprefix("  duplicate id").strip().partition("  ")
    assert re.fullmatch(rf"order_placed place-1 lies at {traded.names.stream('shop')}:\d+ too", finding)
    assert len(line) <= 100
    shown = document(mesh(traded, "show", place, "--json"))
    assert (shown["id"], shown["key"]) == ("place-1", "9")


async def test_an_audit_in_json_is_one_document(traded):
    sound = document(mesh(traded, "audit", "--json"))
    await break_it(traded)
    broken = mesh(traded, "audit", "--json")

    assert broken.returncode == 1
    assert set(sound["broken"].values()) == {0}
    found = json.loads(broken.stdout)
    assert found["broken"] == sound["broken"] | {"duplicate_id": 1}
    assert [domain["domain"] for domain in found["domains"]] == ["billing", "shop"]
    shop = found["domains"][1]
    assert (shop["stream"], shop["events"]) == (traded.names.stream("shop"), 8)
    assert shop["agents"][1] == {"agent": "clerk", "handled": 3, "answered": 3, "dead": 1, "pending": 1}
    (violation,) = shop["violations"]
    assert violation.keys() == {"invariant", "place", "id", "finding"}
    assert (violation["invariant"], violation["id"]) == ("duplicate_id", "place-1")


async def test_one_domain_is_reported_on_with_causes_that_lie_in_others(traded):
    await break_it(traded)

    billing, shop = mesh(traded, "audit", "--domain", "billing", "--json"), mesh(traded, "audit", "--domain", "shop")

    assert [domain["domain"] for domain in document(billing)["domains"]] == ["billing"]
    assert shop.returncode == 1
    assert "billing" not in shop.stdout


async def test_a_domain_that_does_not_exist_is_not_found(traded):
    result = mesh(traded, "audit", "--domain", "shoes", "--json")

    assert (result.returncode, result.stdout) == (1, "")
    assert error(result)["object"] == "shoes"


async def test_without_a_server_the_audit_says_so(stage):
    result = mesh(stage, "audit", MESH_NATS__URL="127.0.0.1:1")

    assert (result.returncode, result.stdout) == (3, "")
    assert "127.0.0.1:1 cannot be reached" in result.stderr
