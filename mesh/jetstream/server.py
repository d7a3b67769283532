"""A real nats-server with JetStream on this machine, for development and tests.

    with LocalServer() as server:
        client = await nats.connect(server.url)

Linux and macOS. Everything listens on 127.0.0.1; the monitoring endpoints ask for no password.
"""

import atexit
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Self

from mesh.errors import MeshError, Unreachable, UsageError
from mesh.jetstream.server_binary import server_binary, server_version

HOST = "127.0.0.1"
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL

# A fresh interpreter runs this and becomes nats-server, which the kernel kills when the thread that spawned it ends.
# As a `preexec_fn` it would run Python between fork and exec of a process with threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class LocalServer:
    """One nats-server process with JetStream, which does not outlive the Python process that started it.

    Args:
        port: Port for clients. 0: a free one, chosen at the first start and kept from then on.
        store_dir: Where streams, log and configuration are kept; made if missing, never removed. Without it, a
            temporary directory that `stop` removes.
        name: Name of the server, unique in its cluster.
        sync_interval: How often written data is forced to disk, as in `10s`. `always`: before each acknowledgement, so
            that a power failure loses nothing. The death of the process loses nothing either way.
        max_payload: Largest message, headers included, in bytes.
        extra_config: More text for the end of the configuration file: an `authorization` block, say, or
            `http: "127.0.0.1:8222"` for a fixed port of the monitoring endpoints.
        binary: The nats-server to run, see `server_binary`.

    Attributes:
        name: Name of the server.
        version: Version of the server, as in `2.15.0`; empty until it has been started.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        store_dir: str | Path | None = None,
        name: str = "mesh",
        sync_interval: str = "2m",
        max_payload: int = 1024 * 1024,
        extra_config: str = "",
        binary: Path | None = None,
    ) -> None:
        self.version = ""
        self._port = port
        self._monitor_url: str | None = None
        self._store_dir = None if store_dir is None else Path(store_dir).resolve()
        self._is_temporary = store_dir is None
        self.name = name
        self._sync_interval = sync_interval
        self._max_payload = max_payload
        self._extra_config = extra_config
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Id of the process, also after its end."""
        return self._known(self._process).pid

    @property
    def port(self) -> int:
        """Port for clients."""
        return self._known(self._port or None)

    @property
    def url(self) -> str:
        """Address for clients, as in `nats://127.0.0.1:4222`."""
        return f"nats://{HOST}:{self.port}"

    @property
    def monitor_url(self) -> str:
        """Address of the HTTP monitoring endpoints, such as `/varz` and `/jsz`; every start chooses a port."""
        return self._known(self._monitor_url)

    @property
    def store_dir(self) -> Path:
        """Directory of the streams, the log and the configuration."""
        return self._known(self._store_dir)

    @property
    def log_path(self) -> Path:
        """The server's log; restarts append to it."""
        return self.store_dir / "nats-server.log"

    def start(self, *, timeout: float = 30.0) -> Self:
        """Starts the server and returns when JetStream answers; does nothing when it is running.

        Args:
            timeout: Seconds until a server that is not ready is given up and ended.

        Raises:
            MeshError: No usable binary, a port or the store directory in use, or a server that ends or does not become
                ready; then with the end of its log.
        """
        if self.running:
            return self
        binary = server_binary(self._binary)
        self.version = server_version(binary)
        if self._store_dir is None:
            self._store_dir = Path(tempfile.mkdtemp(prefix="mesh-nats-"))
        atexit.register(self.stop)
        try:
            self._run(binary, time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server, by SIGKILL if SIGTERM has not done so in 10 s, and removes a temporary store directory."""
        self._end(signal.SIGTERM)
        atexit.unregister(self.stop)
        if self._is_temporary and self._store_dir is not None:
            shutil.rmtree(self._store_dir)
            self._store_dir = None

    def kill(self) -> None:
        """Ends the server by SIGKILL, as a crash would; the store directory stays, also a temporary one."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Ends the server by SIGTERM and starts it again on the same port and the same store directory."""
        self._end(signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _known[T](self, value: T | None) -> T:
        if value is None:
            message = f"The local server {self.name} has not been started"
            raise UsageError(message, code="server_not_started", object=self.name, cure="call start() first")
        return value

    def _config(self, port: int) -> str:
        store = json.dumps(str(self.store_dir), ensure_ascii=False)
        # js_ack_fc_v2, the default from 2.16 on, sends reply subjects on which nats-py 2.16 stops reading.
        return f"""\
server_name: "{self.name}"
listen: "{HOST}:{port}"
http: "{HOST}:-1"
ports_file_dir: {store}
max_payload: {self._max_payload}
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {store}
  sync_interval: "{self._sync_interval}"
}}
{self._extra_config}
"""

    def _open(self, name: str) -> IO[bytes]:
        try:
            self.store_dir.mkdir(parents=True, exist_ok=True)
            return (self.store_dir / name).open("ab")
        except OSError as error:
            message = f"{self.store_dir} cannot be a store directory: {error.strerror}"
            cure = "give a directory that can be written to"
            raise UsageError(message, code="store_unusable", object=str(self.store_dir), cure=cure) from error

    def _run(self, binary: Path, deadline: float) -> None:
        port = self._port or free_ports(1)[0]
        self._process = self._spawn(binary, port)
        try:
            self._wait_until_ready(deadline)
        except UsageError as error:
            if self._port or error.object != f"{HOST}:{port}":
                raise
            self._run(binary, deadline)  # somebody was quicker
        else:
            self._port = port

    def _spawn(self, binary: Path, port: int) -> subprocess.Popen[bytes]:
        with self._open("lock") as lock, self._open(self.log_path.name) as log:
            try:
                # The server inherits the lock, so the kernel frees the directory when the process is gone, not before.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"The store directory {self.store_dir} is in use by another server"
                cure = "stop that server or give another directory"
                raise UsageError(message, code="store_in_use", object=str(self.store_dir), cure=cure) from None
            for leftover in self.store_dir.glob("*.ports"):  # of a killed server, whose pid may come again
                leftover.unlink()
            config = self.store_dir / "nats-server.conf"
            config.write_text(self._config(port), encoding="utf-8")
            command = [str(binary), "--config", str(config)]
            if sys.platform == "linux":
                command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
            spawned: Future[subprocess.Popen[bytes]] = Future()

            def spawn_and_stay() -> None:
                # The death signal comes when the spawning thread ends, so that thread stays as long as the server does.
                # A process group of its own: Ctrl-C is for the program, which may still need the server to finish.
                try:
                    fds = [lock.fileno()]
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, process_group=0
                    )
                except OSError as error:
                    spawned.set_exception(error)
                else:
                    spawned.set_result(process)
                    process.wait()

            threading.Thread(target=spawn_and_stay, name="nats-server", daemon=True).start()
            return spawned.result()

    def _wait_until_ready(self, deadline: float) -> None:
        while (state := self._state()) != "ready":
            if not self.running:
                raise self._start_error("ended while starting")
            if time.monotonic() > deadline:
                raise self._start_error(f"did not become ready ({state})")
            time.sleep(0.02)

    def _state(self) -> str:
        """`ready`, or what is missing; `/healthz` speaks for JetStream, its streams and the contact with a cluster."""
        ports = next(self.store_dir.glob("*.ports"), None)
        if ports is None:
            return "not listening"
        try:
            self._monitor_url = json.loads(ports.read_bytes())["monitoring"][0]  # ValueError: not written to its end
            with closing(http.client.HTTPConnection(self.monitor_url.removeprefix("http://"), timeout=1)) as monitoring:
                monitoring.request("GET", "/healthz")
                response = monitoring.getresponse()
                return "ready" if response.status == http.client.OK else response.read().decode()
        except (OSError, ValueError, http.client.HTTPException) as error:
            return repr(error)

    def _start_error(self, what: str) -> MeshError:
        log = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line for line in log if line and "Healthcheck failed" not in line][-20:]
        if in_use := re.search(r"listen tcp (\S+): bind: address already in use", "".join(lines[-1:])):
            cure = "stop what listens there or choose another port"
            return UsageError(f"{in_use[1]} is in use", code="port_in_use", object=in_use[1], cure=cure)
        cure = "\n".join(["read the end of its log:", *lines])
        return Unreachable(f"nats-server {what}", code="server_failed", object=str(self.log_path), cure=cure)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those that the kernel hands out: they stay free while a server is down."""
    ports: set[int] = set()
    while len(ports) < count:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            ports.add(port)
    return list(ports)
