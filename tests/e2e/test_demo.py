"""`mesh demo`, as a newcomer sees it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from contextlib import closing, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mesh", "demo"]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where the demo puts what is temporary."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def run(command=COMMAND, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **{"cwd": ROOT, **options})


def tree(text, root):
    """The column `event` of the tree below a root event, and who emitted each one."""
    block = text.split(f"\n{root} ")[1].split("\n\n")[1]
    rows = re.findall(r"^ +[\d.]+ {2,}(?:[\d.]+)? {2,}([ │├└]*\S+) {2,}(\S+)", block, re.MULTILINE)
    return [(event.strip(), agent) for event, agent in rows]


def assert_nothing_listens(text):
    address = re.search(r"nats://([\d.]+):(\d+)", text)
    with closing(socket.socket()) as client:
        assert client.connect_ex((address[1], int(address[2]))) != 0


def test_the_tour_shows_flows_and_totals_and_leaves_nothing_behind(scratch):
    done = run()

    assert done.returncode == 0, done.stderr
    assert tree(done.stdout, "LeadCaptured") == [
        ("LeadCaptured", "you"),
        ("└ LeadScored", "lead-scorer"),
        ("└ OfferPriced", "pricing"),
        ("└ LeadContacted", "outreach"),
    ]
    story = tree(done.stdout, "StoryFiled")
    assert sorted(agent for _, agent in story) == [*["editor"] * 3, "fact-desk", "headline-desk", "triage", "you"]
    assert ("StoryPublished", "editor") in [(event.lstrip(" │├└"), agent) for event, agent in story]
    for agent, handled in {"lead-scorer": 20, "pricing": 20, "outreach": 20, "triage": 20, "editor": 60}.items():
        assert re.search(rf"^{agent} +{handled} ", done.stdout, re.MULTILINE)
    assert "180 events in " in done.stdout
    assert "duplicates 0, dead letters 0" in done.stdout
    assert "40 of 40 root events gave exactly the outputs that their agents promise" in done.stdout
    assert list(scratch.iterdir()) == []
    assert_nothing_listens(done.stdout)


def test_a_log_file_of_the_tour_is_plain_text_of_a_hundred_columns_without_personal_data(scratch):
    done = run()

    assert done.stderr == ""
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 100
    assert "marital=***" in done.stdout
    assert "balance=" not in done.stdout


def test_the_tour_ignores_other_servers_and_what_the_environment_says_about_them(scratch, monkeypatch):
    monkeypatch.setenv("MESH_NATS__URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("MESH_NATS__CREDENTIALS", "/nowhere")
    monkeypatch.setenv("MESH_STREAM__REPLICAS", "3")
    monkeypatch.setenv("MESH_AUTO_PROVISION", "false")
    with socket.socket() as other, suppress(OSError):  # an error says that somebody listens there already
        other.bind(("127.0.0.1", 4222))
        other.listen()

        assert run().returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_tour_that_is_broken_off_leaves_nothing_behind(scratch, number):
    with subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first_line = process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate()

    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(scratch.iterdir()) == []
    assert_nothing_listens(first_line)


def test_a_broken_promise_is_shown_and_fails(scratch, tmp_path):
    shutil.copytree(ROOT / "agents", tmp_path / "agents")
    outreach = tmp_path / "agents/revops/outreach.py"
    outreach.write_text(
        outreach.read_text().replace("return decide(event)", 'return decide(event) if event.lead_id != "4" else None')
    )

    done = run(cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    assert "39 of 40 root events gave exactly the outputs that their agents promise" in done.stdout
    assert "\nLeadCaptured 4 and what followed" in done.stdout
    assert [event for event, _ in tree(done.stdout, "LeadCaptured")] == [
        "LeadCaptured",
        "└ LeadScored",
        "└ OfferPriced",
    ]


def test_without_the_repository_the_tour_says_what_it_needs(tmp_path):
    # -S: the site module would put the checkout's agents on the path, as an editable install does.
    paths = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "vendor")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    done = run([sys.executable, "-S", *COMMAND[1:]], cwd=tmp_path, env=env | {"PYTHONPATH": os.pathsep.join(paths)})

    assert done.returncode == 2
    assert "there is no example team revops here" in done.stderr
    assert "clone the repository" in done.stderr
    assert "Traceback" not in done.stderr
