"""Kills the process of an agent at every await between the delivery of an event and its settlement.

The points are read from the code itself, so a new await is killed at as well, or fails the test until it is.
"""

import ast
import itertools
import signal
from collections import Counter
from pathlib import Path

import pytest
from shop.v1.events_pb2 import OrderPlaced, Stock
from support import Stage, eventually

import mesh

PACKAGE = Path(mesh.__file__).parent

PATH = [
    "runtime/dispatcher.py",
    "runtime/handling.py",
    "runtime/execution.py",
    "runtime/proof.py",
    "runtime/run.py",
    "runtime/journal.py",
    "agent/steps.py",
    "agent/state.py",
    "agent/decisions.py",
    "jetstream/commit.py",
]
"""The files that an event passes from its delivery to its settlement."""

SCENARIOS = [
    "works",
    "fails once",
    "fails for good",
    "is garbage",
    "meets a conflict",
    "dies before it pays",
    "dies after it paid",
    "dies after its commit",
]

COMMIT = "await persist(partial(log.commit, home, transaction.writes))"

ELSEWHERE = {
    "_postpone(": "needs a version without the handler: test_replicas",
    "_hand_back(flight": "runs at shutdown: test_replicas, test_faults",
    "journal.append(entry)\n        flight.delivery.nak": "runs at shutdown: test_replicas, test_faults",
    "address, killed.code, killed)": "needs a handler that kills its process: test_faults",
    "asyncio.sleep(delay": "needs a server that is away: test_faults",
    "_pause(number)": "needs a server that is away: test_faults",
    "asyncio.sleep(min(0.05": "needs a server that is away: test_faults",
    "last_by_subj=write.subject": "needs a server that is away: test_faults",
    "self._stored(write)": "needs a server that is away: test_faults",
    "self._settle(group[": "needs several transactions of which one is refused: test_decisions",
    "loop.code": "needs agents that answer each other: test_failures",
    "self._log.read(stream, write.subject)": "needs a timer or a forward that is repeated: test_exactly_once",
    "forward": "needs a second domain: test_exactly_once",
    "await self.load()": "needs another process with the same event: test_zombie",
    "not_done=": "needs an effect that says that it did not happen: test_steps",
    "call_off(step)": "needs an effect that says that it did not happen: test_steps",
    "run_in_executor": "needs a synchronous handler: test_handling",
    "asyncio.wait(tasks": "runs at shutdown: test_replicas",
    "asyncio.gather(*tasks": "runs at shutdown: test_replicas",
    "self._entry(event_type(state), str(key))\n        if entry.data": "deletes state: test_handling",
}
"""Awaits that no scenario here comes by, by a piece of their code, and where they are tested."""


def awaits():
    """Every await of the path as `<file>:<line>`."""
    for file in PATH:
        source = (PACKAGE / file).read_text()
        lines = source.splitlines()
        found = {
            node.lineno
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        }
        for line in sorted(found):
            code = "\n".join(lines[line - 1 : line + 1])
            if not any(piece in code for piece in ELSEWHERE):
                yield f"{file}:{line}"


def line_of(file, code):
    lines = (PACKAGE / file).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if code in line)


class Mortal:
    """The agent's process, which is told where to die."""

    def __init__(self, processes, stage, folder):
        self._order = folder / "order"
        self._read = self._order.with_suffix(".read")
        self.calls = folder / "calls"
        self.calls.touch()
        environment = {"MORTAL_ORDER": str(self._order), "MORTAL_CALLS": str(self.calls)}
        self._context = processes(stage, "mortal:agent", environment)

    def __enter__(self):
        self._agent = self._context.__enter__()
        return self

    def __exit__(self, *error):
        return self._context.__exit__(*error)

    @property
    def exit_code(self):
        """None while it lives; 66 when it died as told, 67 when the scenario killed it."""
        return self._agent.process.poll()

    async def tell(self, point):
        await self._agent.ready()
        self._read.unlink(missing_ok=True)
        self._order.write_text(point)
        self._agent.process.send_signal(signal.SIGUSR1)
        await eventually(self._read.exists)

    def start_again(self, point=None):
        self._order.unlink()
        if point:
            self._order.write_text(point)
        self._agent.start()

    async def ready(self):
        await self._agent.ready()


class Trial:
    """One order after the other, each in a scenario, each with a process that dies somewhere."""

    def __init__(self, stage, mortal):
        self._stage = stage
        self._mortal = mortal
        self._numbers = itertools.count()
        self.scenarios = {}
        self.deaths = 0

    async def dies_at(self, point, scenario):
        """Whether the process died at the point while it handled an order in the scenario."""
        order = f"o{next(self._numbers)}"
        self.scenarios[order] = scenario
        first = point
        if scenario == "dies after its commit":
            first = f"runtime/execution.py:{line_of('runtime/execution.py', COMMIT)}:resume"
        await self._mortal.tell(first)
        await self._place(order, scenario)
        exit_code = await self._dead_or_settled()
        if exit_code == 67 or (exit_code == 66 and first != point):
            self.deaths += 1
            self._mortal.start_again(point)
            exit_code = await self._dead_or_settled()
        if exit_code is not None:
            self.deaths += 1
            self._mortal.start_again()
        return exit_code == 66

    async def _place(self, order, scenario):
        if scenario == "is garbage":
            subject = self._stage.names.message("shop", "evt", "order_placed", order)
            await self._stage.mesh.connection.request(subject, b"\xff garbage", {"ce-id": order})
        else:
            await self._stage.mesh.emit(OrderPlaced(order_id=order, email=scenario), id=order)

    async def _dead_or_settled(self):
        async def ended():
            return self._mortal.exit_code is not None or await self._stage.settled("shop", "mortal")

        await eventually(ended, within=30)
        return self._mortal.exit_code


@pytest.mark.timeout(900)
async def test_a_process_may_die_at_any_await_and_the_world_looks_as_if_the_handling_ran_once(
    processes, mesh_server, mesh_namespace, tmp_path
):
    points = list(awaits())
    survived = []
    async with Stage(mesh_server, mesh_namespace, ack_wait=0.5).open() as stage:
        with Mortal(processes, stage, tmp_path) as mortal:
            trial = Trial(stage, mortal)
            for point in points:
                deaths = 0
                for phase in ("reach", "resume"):
                    for scenario in SCENARIOS:
                        if await trial.dies_at(f"{point}:{phase}", scenario):
                            deaths += 1
                            break
                if not deaths:
                    survived.append(point)
            await mortal.ready()
            await eventually(lambda: _nothing_left(stage), within=60)

        assert not survived, "never reached:\n" + "\n".join(survived)
        await _looks_as_if_each_ran_once(stage, trial, Counter(mortal.calls.read_text().splitlines()))


async def _nothing_left(stage):
    return await stage.settled("shop", "mortal") and not await stage.subjects("shop", "timer.>")


async def _looks_as_if_each_ran_once(stage, trial, calls):
    scenarios = trial.scenarios
    dead = {order for order, scenario in scenarios.items() if scenario in ("fails for good", "is garbage")}
    answered = scenarios.keys() - dead
    once = dict.fromkeys(answered, 1)
    subjects = await stage.subjects("shop")

    def keys(kind):
        return {s.rpartition(".")[2]: n for s, n in subjects.items() if s.startswith(f"{kind}.")}

    assert keys("evt.order_refused") == once
    assert keys("evt.order_accepted") == dict.fromkeys(answered, 2)
    assert keys("cmd.pack_order") == once
    assert keys("dec.fate") == once
    assert keys("dead.mortal") == dict.fromkeys(dead, 1)
    stocks = [Stock.FromString(stored.data) for stored in await stage.messages("shop", "state.>")]
    assert {stock.shelf_id: stock.reserved for stock in stocks} == once
    assert {order: calls[f"pay {order}"] for order in answered} == once
    # A step is called again only when the process dies between its return and its entry in the journal.
    steps = [calls[f"first {order}"] for order in answered]
    assert min(steps) == 1
    assert sum(steps) - len(answered) <= trial.deaths
