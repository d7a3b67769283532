import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import Stage, eventually

APPS = Path(__file__).parent / "apps"


class AgentProcess:
    """`mesh run` in a process of its own."""

    def __init__(self, target, env, log):
        self._target, self._env, self._log = target, env, log
        self.starts = 0
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "mesh", "run", self._target, "--app-dir", str(APPS)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | self._env, stdout=log, stderr=log)
        self.starts += 1
        return self

    async def ready(self):
        """Waits until the process of the last start runs its agents."""
        await eventually(lambda: self._log.read_text().count(" running ") >= self.starts)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self):
        return await asyncio.to_thread(self.process.wait, 40)

    async def supervise(self):
        """Starts the process again whenever it ends, as Kubernetes would."""
        while True:
            await asyncio.to_thread(self.process.wait)
            self.start()


class Command:
    """A running `mesh …` and what it has printed."""

    def __init__(self, arguments, env, log):
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesh", *arguments], env=os.environ | env, stdout=file, stderr=file
            )

    @property
    def printed(self):
        return self._log.read_text()

    async def prints(self, text, times=1):
        await eventually(lambda: self.printed.count(text) >= times or self.process.poll() is not None)
        assert self.printed.count(text) >= times, self.printed

    async def code(self):
        await eventually(lambda: self.process.poll() is not None)
        return self.process.returncode

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)


@pytest.fixture
async def stage(mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace).open() as stage:
        yield stage


@pytest.fixture
def processes(tmp_path):
    """`with processes(stage, "orders:agent") as process`: agents that never outlive their test."""

    @contextmanager
    def run(stage, target, environment=()):
        log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
        process = AgentProcess(target, stage.environment | dict(environment), log)
        try:
            yield process.start()
        finally:
            process.kill()
            print(log.read_text()[-4000:])  # noqa: T201 - pytest shows it when the test fails

    return run


@pytest.fixture
def start(tmp_path):
    """`start("run", …, env={…})` starts a `mesh` command that never outlives its test."""
    with ExitStack() as stack:

        def start(*arguments, env):
            log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
            command = Command([str(argument) for argument in arguments], env, log)
            stack.callback(command.process.wait)
            stack.callback(command.process.kill)
            return command

        yield start
