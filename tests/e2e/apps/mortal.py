"""An agent that does everything a handling can do, and dies wherever it is told to.

The file named by MORTAL_ORDER holds `<file>:<line>:<reach|resume>`; the process reads it at its start and on SIGUSR1.
Every call to the outside is a line in the file named by MORTAL_CALLS.
"""

import os
import signal
import sys
from pathlib import Path

from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock

import mesh
from mesh import Agent, Context, Mesh, Reject

ORDER = Path(os.environ["MORTAL_ORDER"])
CALLS = Path(os.environ["MORTAL_CALLS"])
PACKAGE = Path(mesh.__file__).parent
TOOL = sys.monitoring.DEBUGGER_ID

DIED_AS_TOLD, DIED_OF_THE_SCENARIO = 66, 67

agent = Agent("mortal", lifespan=lambda agent: Mesh.connect())


def called(name, order):
    with CALLS.open("a") as calls:
        calls.write(f"{name} {order}\n")


def first_time(name, order):
    if f"{name} {order}\n" in CALLS.read_text():
        return False
    called(name, order)
    return True


async def ask(question: str, order: str) -> str:
    called(question, order)
    return f"answer to {question}".ljust(70_000, ".")


async def pay(order: str, scenario: str, *, idempotency_key: str) -> str:
    if scenario == "dies before it pays" and first_time(scenario, order):
        os._exit(DIED_OF_THE_SCENARIO)
    called("pay", order)
    if scenario == "dies after it paid" and first_time(scenario, order):
        os._exit(DIED_OF_THE_SCENARIO)
    return idempotency_key


def paid(key: str) -> str | None:
    """What the bank would say: the key names the event, and so its order."""
    order = key.split("/pay/", maxsplit=1)[0].rpartition("/")[2]
    return key if f"pay {order}\n" in CALLS.read_text() else None


@agent.on(concurrency=4, max_attempts=1000, emits=[PackOrder])
async def handle(event: OrderPlaced, ctx: Context[Mesh]) -> list[OrderAccepted | OrderRefused]:
    order, scenario = event.order_id, event.email
    if scenario == "fails once" and ctx.attempt == 1:
        raise RuntimeError(scenario)
    if scenario == "fails for good":
        raise Reject(scenario)
    first = await ctx.step("first", ask, "first", order)
    await ctx.step("second", ask, first[:20], order)
    await ctx.effect("pay", pay, order, scenario, reconcile=paid)
    stock = await ctx.state.get_or_new(Stock, order)
    if scenario == "meets a conflict" and first_time(scenario, order):
        subject = ctx.resources.namespace.message("shop", "state", "stock", order)
        await ctx.resources.connection.request(subject, Stock(shelf_id=order).SerializeToString())
    stock.reserved += 1
    await ctx.state.put(stock)
    await ctx.decisions("fate")
    await ctx.decide("fate", "accept", because="it is told to")
    ctx.emit(OrderRefused(order_id=order))
    ctx.emit(PackOrder(order_id=order), delay=0.1)
    return [OrderAccepted(order_id=order, quantity=n) for n in range(2)]


def obey(*_):
    """Arms the point of the order, for the next time that code comes by."""
    file, line, phase = ORDER.read_text().split(":")
    monitoring, path = sys.monitoring, str(PACKAGE / file)

    def reached(code, number):
        if code.co_filename == path and number == int(line):
            os._exit(DIED_AS_TOLD)

    def resumed(code, offset):
        if code.co_filename == path and _line_at(code, offset) == int(line):
            os._exit(DIED_AS_TOLD)

    events = monitoring.events
    monitoring.register_callback(TOOL, events.LINE, reached if phase == "reach" else None)
    monitoring.register_callback(TOOL, events.PY_RESUME, resumed if phase == "resume" else None)
    monitoring.set_events(TOOL, events.LINE if phase == "reach" else events.PY_RESUME)
    ORDER.with_suffix(".read").touch()


def _line_at(code, offset):
    return next(line for start, end, line in code.co_lines() if start <= offset < end)


sys.monitoring.use_tool_id(TOOL, "mortal")
signal.signal(signal.SIGUSR1, obey)
if ORDER.exists():
    obey()
