"""`mesh why` and `mesh state`: what agents decided, and what they remember."""

import json

import pytest
from commands import document, error, mesh
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, Stock
from support import eventually

from mesh import Agent, Context
from mesh.jetstream.server import free_ports

REASON = "the customer has been here for years and asks for a better price every time; " * 3
NO_CODE = {"PYTHONPATH": ""}  # contracts come from the registry alone


def shop():
    """Two agents: one keeps stock and gives a discount, the other one gives more."""
    pricing, retention = Agent("pricing"), Agent("retention")

    @pricing.on
    async def price(event: OrderPlaced, ctx: Context) -> OrderAccepted | None:
        if not event.quantity:
            await ctx.state.delete(Stock, event.order_id)
            return None
        await ctx.state.put(Stock(shelf_id=event.order_id, reserved=event.quantity))
        await ctx.decide("discount", "5%", because=REASON, confidence=2 / 3, alternatives=["0%", "10%"])
        return OrderAccepted(order_id=event.order_id)

    @retention.on
    async def retain(event: OrderAccepted, ctx: Context) -> OrderRefused:
        await ctx.decisions("discount")
        evidence = [ctx.causation_id, ctx.event_id, "unknown"]
        await ctx.decide("discount", "15%", because="too\nlittle", evidence=evidence, model="m-1", tokens=(812, 64))
        return OrderRefused(order_id=event.order_id)

    return pricing, retention


@pytest.fixture
async def traded(stage):
    async with stage.running(*shop()):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7", quantity=3, email="ann@example.com"), id="placed")
        await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)
    return stage


async def test_why_tells_the_chain_of_decisions_and_marks_the_one_that_holds(traded):
    result = mesh(traded, "why", "order/7", **NO_CODE)

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "discount of order/7, decided in shop"
    words = " ".join(result.stdout.split())
    first, second = words.split("retention chose")
    assert "pricing chose 5% because" in first
    assert REASON.strip() in first
    assert "confidence 0.667 instead of 0%, 10%" in first
    assert "handling placed" in first
    assert 'shop.order_placed order/7 {"quantity": 3, "email": "***"}' in first
    assert first.rstrip().split("evidence ")[1].startswith("the event that was handled")
    assert second.startswith(" 15% (holds) because too little model m-1, 812 tokens in, 64 out")
    assert "overrides 5% of pricing, which it had seen" in second
    assert second.endswith("evidence unknown not found in the log")


async def test_why_as_json_holds_ids_that_show_finds(traded):
    why = document(mesh(traded, "why", "order/7", "--question", "discount", "--json", "--show-pii", **NO_CODE))

    (question,) = why["questions"]
    first, second = question["decisions"]
    assert (why["entity"], question["question"], question["domain"]) == ("order/7", "discount", "shop")
    assert (first["choice"], first["holds"], second["choice"], second["holds"]) == ("5%", False, "15%", True)
    assert second["overrides"]["agent"] == first["agent"] == "pricing"
    assert [found["event"] and found["event"]["type"] for found in second["evidence"]] == [
        "shop.v1.OrderPlaced",
        "shop.v1.OrderAccepted",
        None,
    ]
    assert first["handled"]["event"]["data"]["email"] == "ann@example.com"
    shown = document(mesh(traded, "show", second["handled"]["id"], "--json"))
    assert shown["type"] == "shop.v1.OrderAccepted"
    decision = document(mesh(traded, "show", f"{first['stream']}:{first['seq']}", "--json"))
    assert (decision["id"], decision["agent"], decision["data"]["choice"]) == (first["id"], "pricing", "5%")


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "cure"),
    [
        (["order/8"], 1, "nobody has decided about order/8", "ask for order/7"),
        (["order/7", "--question", "owner"], 1, "nobody has decided owner about order/7", "ask for discount"),
        (["order/7", "--domain", "crm"], 1, "there is no domain crm", "name one of shop"),
        (["order"], 2, "'order' is not an entity", "write lead/42"),
    ],
)
async def test_why_without_a_decision_says_where_there_are_some(traded, arguments, code, problem, cure):
    result = mesh(traded, "why", *arguments, "--json")

    assert (result.returncode, result.stdout) == (code, "")
    assert (error(result)["message"], error(result)["cure"]) == (problem, cure)


async def test_the_state_is_shown_and_listed_from_the_registry_alone(traded):
    stock = document(mesh(traded, "state", "get", "shop.stock", "7", "--json", **NO_CODE))
    listed = document(mesh(traded, "state", "ls", "--domain", "shop", "--json", **NO_CODE))
    line = mesh(traded, "state", "ls", "Stock", **NO_CODE).stdout
    text = mesh(traded, "state", "get", "Stock", "7", **NO_CODE).stdout

    assert (stock["type"], stock["key"], stock["deleted"]) == ("shop.v1.Stock", "7", False)
    assert stock["data"] == {"shelf_id": "7", "reserved": "3"}
    assert listed == [stock]
    assert line.split()[1:] == ["shop.stock", "shelf/7", f"{stock['stream']}:{stock['seq']}", '{"reserved":', '"3"}']
    assert text.startswith("shop.v1.Stock of shelf/7\n")
    assert json.loads(text[text.index("{") :]) == stock["data"]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["get", "Stock", "8"], 1, "there is no shop.stock of shelf/8"),
        (["get", "Shelf", "8"], 1, "no event, command or state is called Shelf"),
        (["get", "OrderPlaced", "7"], 2, "shop.v1.OrderPlaced is no state"),
        (["ls", "--domain", "crm"], 1, "there is no domain crm"),
    ],
)
async def test_state_that_is_not_there_is_named(traded, arguments, code, problem):
    result = mesh(traded, "state", *arguments, "--json")

    assert (result.returncode, result.stdout) == (code, "")
    assert error(result)["message"] == problem


async def test_a_watcher_sees_the_current_states_then_changes_and_deletions(stage, start):
    async with stage.running(*shop()):
        await _handled(stage, OrderPlaced(order_id="7", quantity=1))
        every = start("state", "watch", env=stage.environment | NO_CODE)
        await every.prints('{"reserved": "1"}')
        one = start("state", "watch", "shop.stock", "--key", "7", "--json", env=stage.environment | NO_CODE)
        await one.prints('"reserved": "1"')

        await _handled(stage, OrderPlaced(order_id="8", quantity=8))
        await _handled(stage, OrderPlaced(order_id="7", quantity=2))
        await every.prints('{"reserved": "2"}')
        await one.prints('"reserved": "2"')
        await _handled(stage, OrderPlaced(order_id="7"))
        await every.prints("deleted")
        await one.prints('"deleted": true')

    shown = [line.split()[2:] for line in every.printed.splitlines()]
    assert [(entity, says) for entity, _, *says in shown] == [
        ("shelf/7", ['{"reserved":', '"1"}']),
        ("shelf/8", ['{"reserved":', '"8"}']),
        ("shelf/7", ['{"reserved":', '"2"}']),
        ("shelf/7", ["deleted"]),
    ]
    documents = [json.loads(line) for line in one.printed.splitlines()]
    assert [(d["key"], d["deleted"], d["data"] and d["data"]["reserved"]) for d in documents] == [
        ("7", False, "1"),
        ("7", False, "2"),
        ("7", True, None),
    ]


async def _handled(stage, event):
    await stage.mesh.emit(event)
    await eventually(lambda: stage.settled("shop", "pricing"))


@pytest.mark.parametrize("command", [["why", "order/7"], ["state", "get", "Stock", "7"], ["state", "ls"]])
async def test_without_nats_the_exit_code_is_3(stage, command):
    result = mesh(stage, *command, MESH_NATS__URL=f"nats://127.0.0.1:{free_ports(1)[0]}")

    assert (result.returncode, result.stdout) == (3, "")


async def test_a_namespace_without_anything_says_so(stage):
    assert mesh(stage, "state", "ls").stdout == "there is no state\n"
    assert document(mesh(stage, "state", "ls", "--json")) == []
    assert error(mesh(stage, "why", "order/7", "--json"))["cure"] == "decide in an agent: ctx.decide"
