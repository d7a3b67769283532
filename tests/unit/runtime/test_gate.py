import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.runtime.gate import Gate


class Visit:
    """Somebody who goes through the gate and stays until told to leave."""

    def __init__(self, way):
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._go(way))

    async def _go(self, way):
        async with way:
            self.inside = True
            await self._leave.wait()
        self.inside = False

    async def leave(self):
        self._leave.set()
        await self.task
        await settle()


async def settle():
    """Lets everybody who can move do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
async def visit():
    """Sends somebody through the gate and lets him get as far as he can; whoever is left at the end is cancelled."""
    visits = []

    async def start(way):
        visits.append(Visit(way))
        await settle()
        return visits[-1]

    yield start
    for one in visits:
        one.task.cancel()
    await asyncio.gather(*(one.task for one in visits), return_exceptions=True)


async def test_handlings_run_side_by_side(gate, visit):
    visits = [await visit(gate.shared()) for _ in range(3)]

    assert all(one.inside for one in visits)


async def test_a_suspect_waits_until_nothing_else_runs(gate, visit):
    first, second = await visit(gate.shared()), await visit(gate.shared())
    suspect = await visit(gate.alone())

    await first.leave()
    assert not suspect.inside

    await second.leave()
    assert suspect.inside


async def test_nothing_starts_while_a_suspect_runs_or_waits(gate, visit):
    running = await visit(gate.shared())
    suspect = await visit(gate.alone())
    late = await visit(gate.shared())
    assert not late.inside

    await running.leave()
    assert (suspect.inside, late.inside) == (True, False)

    await suspect.leave()
    assert late.inside


async def test_two_suspects_run_one_after_the_other_before_all_others(gate, visit):
    first, second = await visit(gate.alone()), await visit(gate.alone())
    late = await visit(gate.shared())
    assert (first.inside, second.inside, late.inside) == (True, False, False)

    await first.leave()
    assert (second.inside, late.inside) == (True, False)

    await second.leave()
    assert late.inside


async def test_a_suspect_that_gives_up_waiting_lets_the_others_in(gate, visit):
    await visit(gate.shared())
    suspect = await visit(gate.alone())
    late = await visit(gate.shared())

    suspect.task.cancel()
    await settle()

    assert late.inside


async def test_a_cancelled_suspect_opens_the_gate(gate, visit):
    suspect = await visit(gate.alone())
    late = await visit(gate.shared())

    suspect.task.cancel()
    await settle()

    assert late.inside


async def test_whoever_fails_inside_opens_the_gate(gate, visit):
    for way in (gate.shared(), gate.alone()):
        with pytest.raises(OSError, match="broken"):
            async with way:
                raise OSError("broken")

    assert (await visit(gate.alone())).inside


VISITORS = st.tuples(st.sampled_from(["shared", "alone"]), st.integers(0, 5), st.integers(0, 5), st.booleans())


@given(st.lists(VISITORS, max_size=20))
async def test_a_crowd_gets_through_and_nobody_is_ever_beside_a_suspect(visitors):
    gate = Gate()
    inside = {"shared": 0, "alone": 0}

    async def go(kind, arrival, stay):
        for _ in range(arrival):
            await asyncio.sleep(0)
        async with getattr(gate, kind)():
            inside[kind] += 1
            try:
                for _ in range(stay + 1):
                    assert inside["alone"] <= (not inside["shared"])
                    await asyncio.sleep(0)
            finally:
                inside[kind] -= 1

    tasks = [asyncio.create_task(go(*visitor)) for *visitor, _ in visitors]
    for _ in range(4):
        await asyncio.sleep(0)
    patient = []
    for task, (*_, impatient) in zip(tasks, visitors, strict=True):
        if impatient:
            task.cancel()
        else:
            patient.append(task)
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)

    assert [task.exception() for task in patient] == [None] * len(patient)
