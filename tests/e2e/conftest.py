import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
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


@pytest.fixture
async def stage(mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace).open() as stage:
        yield stage


@pytest.fixture
def processes(tmp_path):
    """`with processes(stage, "orders:agent") as process`: agents that never outlive their test."""

    @contextmanager
    def run(stage, target):
        log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
        process = AgentProcess(target, stage.environment, log)
        try:
            yield process.start()
        finally:
            process.kill()
            print(log.read_text()[-4000:])  # noqa: T201 - pytest shows it when the test fails

    return run
