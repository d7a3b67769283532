"""The README, as somebody works through it: every file is written, every command run, every shown output compared."""

import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.jetstream.server import free_ports

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGING = re.compile(r"\d\d:\d\d:\d\d\.\d{3}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # times and ids
SERVICES = ("mesh server", "mesh run", "mesh tail")  # go on until they are stopped


@dataclass(frozen=True)
class Command:
    """A line `$ command` of a console block and the output shown below it, in which … stands for anything."""

    line: str
    shown: str

    def is_shown_by(self, output):
        """Whether the output holds what the README shows, whatever the times and ids are."""
        shown = ".*".join(map(re.escape, CHANGING.sub("@", self.shown).split("…")))
        return re.search(shown, CHANGING.sub("@", output))


def blocks(*languages):
    return [text for language, text in BLOCK.findall(README) if language in languages]


def commands():
    """All commands, in the order of the README."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            yield Command(line, shown.rstrip())


def write_files(folder):
    for text in blocks("proto", "python"):
        name = re.match(r"(?://|#) (\S+)\n", text)[1]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def environment(monkeypatch):
    """As in the README, on a port that is free here."""
    port = free_ports(1)[0]
    variables = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "MESH_NATS__URL": f"nats://127.0.0.1:{port}",
        "MESH_HEALTH_PORT": "0",
    }
    return os.environ | variables, port


@pytest.mark.timeout(180)
def test_the_smallest_agent_works_as_shown(tmp_path, environment):
    env, port = environment
    write_files(tmp_path)

    with ExitStack() as services:
        for number, command in enumerate(commands()):
            arguments = shlex.split(command.line)
            if command.line.startswith(SERVICES):
                if arguments[1] == "server":
                    arguments += ["--port", str(port)]
                log = tmp_path / f"{number}.log"
                with log.open("wb") as output:
                    process = subprocess.Popen(arguments, cwd=tmp_path, env=env, stdout=output, stderr=output)
                services.callback(process.wait)
                services.callback(process.terminate)
                wait_for(command, log, str(port))
            else:
                done = subprocess.run(arguments, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{command.line}\n{done.stdout}{done.stderr}"
                assert command.is_shown_by(done.stdout), f"{command.line}\n{done.stdout}"


def wait_for(command, log, port):
    """Waits until a service has printed what the README shows."""
    deadline = time.monotonic() + 20
    while not command.is_shown_by(log.read_text().replace(port, "4222")):
        assert time.monotonic() < deadline, f"{command.line}\n{log.read_text()}"
        time.sleep(0.05)


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if line[:5] == "make "])
def test_every_make_target_exists(line):
    subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_to_a_file(target):
    assert (ROOT / target).is_file()
