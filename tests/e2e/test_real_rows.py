"""Real rows from the command line through agents in processes of their own, counted in the streams."""

import asyncio
import csv
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from support import eventually
from teams import NEWSROOM, REVOPS

ROOT = Path(__file__).parents[2]
REVOPS_AGENTS = {"lead-scorer": "revops.lead_scorer", "pricing": "revops.pricing", "outreach": "revops.outreach"}
NEWSROOM_AGENTS = {
    "triage": "newsroom.triage",
    "fact-desk": "newsroom.fact_desk",
    "headline-desk": "newsroom.headline_desk",
    "editor": "newsroom.editor",
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def data():
    """Finds a data file by its name, or skips the test."""

    def find(name):
        path = Path(os.environ.get("EXAMPLE_DATA", ROOT.parent / "shared/data")) / name
        if not path.is_file():
            pytest.skip(f"there is no {path.name}: EXAMPLE_DATA names the folder that holds it")
        return path

    return find


@contextmanager
def running(stage, module):
    """`mesh run` with one agent, which does not outlive the block."""
    command = [sys.executable, "-m", "mesh", "run", f"{module}:agent", "--app-dir", str(ROOT)]
    process = subprocess.Popen(command, env=os.environ | stage.environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def emit(stage, *arguments):
    """`mesh emit`; returns the last line it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh", "emit", *map(str, arguments)),
        cwd=ROOT,
        env=os.environ | stage.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()[-1]


def emit_leads(stage, path):
    return emit(stage, "revops.v1.LeadCaptured", "--csv", path, "--map", "lead_id=id", "--id", "id")


async def durable(stage, domain, agent):
    """What the server says about an agent's consumer; None as long as the agent has not started."""
    return await stage.api.find(f"CONSUMER.INFO.{stage.names.stream(domain)}.{agent}")


async def ended(stage, domain, agents):
    """Waits until each agent has settled everything; `agents` stand in the order in which they get their work."""

    async def is_settled(agent):
        info = await durable(stage, domain, agent)
        return info is not None and info["num_pending"] == info["num_ack_pending"] == 0

    for agent in agents:
        await eventually(partial(is_settled, agent), within=90)


async def test_every_real_lead_is_scored_priced_and_contacted_or_skipped_exactly_once(stage, data):
    path = data("bank-marketing.csv")
    with path.open(newline="") as file:
        ids = {row["id"] for row in csv.DictReader(file)}

    with ExitStack() as processes:
        for module in REVOPS_AGENTS.values():
            processes.enter_context(running(stage, module))
        assert await emit_leads(stage, path) == f"sent {len(ids)}, duplicates 0, rejected 0"
        assert await emit_leads(stage, path) == f"sent 0, duplicates {len(ids)}, rejected 0"
        await ended(stage, "revops", REVOPS_AGENTS)

    await REVOPS.assert_kept(stage, ids)


async def test_every_real_story_is_looked_at_by_every_desk_and_decided_exactly_once(stage, data):
    path = data("ag-news.csv")
    with path.open(newline="") as file:
        rows = len(list(csv.reader(file)))

    with ExitStack() as processes:
        for module in NEWSROOM_AGENTS.values():
            processes.enter_context(running(stage, module))
        columns = "topic,title,summary"
        sent = await emit(stage, "newsroom.v1.StoryFiled", "--csv", path, "--columns", columns)
        assert sent == f"sent {rows}, duplicates 0, rejected 0"
        await ended(stage, "newsroom", NEWSROOM_AGENTS)

    filed = await stage.subjects("newsroom", "evt.story_filed.>")
    assert len(filed) == rows
    await NEWSROOM.assert_kept(stage, {subject.rpartition(".")[2] for subject in filed})


@pytest.mark.parametrize("victim", REVOPS_AGENTS)
async def test_real_leads_lose_and_repeat_nothing_when_an_agent_is_killed_among_them(stage, data, victim):
    path = data("bank-marketing.csv")
    with path.open(newline="") as file:
        ids = {row["id"] for row in csv.DictReader(file)}

    async def settled():
        info = await durable(stage, "revops", victim)
        return info["ack_floor"]["consumer_seq"] if info else 0

    async def is_among_them():
        return await settled() >= 50

    with ExitStack() as processes:
        agents = {agent: processes.enter_context(running(stage, module)) for agent, module in REVOPS_AGENTS.items()}
        sending = asyncio.create_task(emit_leads(stage, path))
        await eventually(is_among_them, every=0)
        agents[victim].kill()
        agents[victim].wait()
        assert await settled() < len(ids)
        processes.enter_context(running(stage, REVOPS_AGENTS[victim]))
        await sending
        await ended(stage, "revops", REVOPS_AGENTS)

    await REVOPS.assert_kept(stage, ids)
