import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.errors import Error as NatsError

from mesh.errors import NotFound, Unreachable, UsageError
from mesh.jetstream import server as server_module
from mesh.jetstream.server import LocalServer
from mesh.jetstream.server_cluster import LocalCluster


@asynccontextmanager
async def jetstream(url: str, **options):
    client = nats.NATS()
    try:
        await client.connect(url.split(","), **options)
        yield client.jetstream()
    finally:
        await client.close()


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def answer[T](ask: Callable[[], Awaitable[T]], timeout: float = 30.0) -> T:
    """What `ask` returns once it stops failing, as it does while a leader is being elected."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return await ask()
        except NatsError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, collected by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_started_server_speaks_jetstream_and_leaves_nothing_behind():
    with LocalServer() as server:
        store_dir, pid = server.store_dir, server.pid
        assert server.running
        assert server.version.startswith("2.")
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert f"127.0.0.1:{server.port}" in server.log_path.read_text()
        async with jetstream(server.url) as js:
            assert (await js.account_info()).streams == 0

    assert not server.running
    assert is_gone(pid)
    assert not store_dir.exists()


async def test_a_restart_keeps_port_and_streams(tmp_path):
    with LocalServer(store_dir=tmp_path / "store") as server:
        url, pid = server.url, server.pid
        async with jetstream(url) as js:
            await js.add_stream(name="KEPT", subjects=["kept.>"])
            await js.publish("kept.one", b"1")

        server.restart()

        assert server.url == url
        assert server.pid != pid
        async with jetstream(url) as js:
            assert (await js.get_last_msg("KEPT", "kept.one")).data == b"1"

    with LocalServer(store_dir=tmp_path / "store") as another:
        async with jetstream(another.url) as js:
            assert (await js.get_last_msg("KEPT", "kept.one")).data == b"1"


async def test_a_killed_server_starts_again_with_its_streams_although_its_store_is_temporary():
    with LocalServer() as server:
        async with jetstream(server.url) as js:
            await js.add_stream(name="KEPT", subjects=["kept.>"])
            await js.publish("kept.one", b"1")

        server.kill()
        assert not server.running
        server.start()

        async with jetstream(server.url) as js:
            assert (await js.get_last_msg("KEPT", "kept.one")).data == b"1"


def test_stop_is_an_orderly_end(tmp_path):
    server = LocalServer(store_dir=tmp_path).start()

    server.stop()
    server.stop()

    assert "Server Exiting" in server.log_path.read_text()
    assert "JetStream Shutdown" in server.log_path.read_text()


def test_a_server_that_does_not_answer_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(server_module, "STOP_TIMEOUT", 0.1)
    with LocalServer() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)

    assert is_gone(pid)


def test_a_second_start_of_a_running_server_changes_nothing():
    with LocalServer() as server:
        pid = server.pid

        assert server.start() is server
        assert server.pid == pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "sys.exit()"])
def test_a_server_ends_with_the_program_that_started_it(tmp_path, end):
    program = textwrap.dedent(f"""
        import os, signal, sys
        from mesh.jetstream.server import LocalServer
        server = LocalServer(store_dir={str(tmp_path)!r}).start()
        print(server.pid, flush=True)
        sys.stdin.read()
        {end}
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.stdin.close()
        parent.wait()

    assert eventually(lambda: is_gone(pid))
    with LocalServer(store_dir=tmp_path) as successor:
        assert successor.running


def test_a_server_outlives_the_thread_that_started_it():
    server = LocalServer()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()

    try:
        server.restart()
        assert server.running
    finally:
        server.stop()


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(UsageError, match="choose another port") as refusal:
            LocalServer(port=port).start()

    assert (refusal.value.code, refusal.value.object) == ("port_in_use", f"127.0.0.1:{port}")


def test_a_port_that_somebody_else_was_quicker_to_take_is_replaced(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        choices = [[taken.getsockname()[1]], server_module.free_ports(1)]
        free = choices[1][0]
        monkeypatch.setattr(server_module, "free_ports", lambda _: choices.pop(0))

        with LocalServer() as server:
            assert server.port == free


def test_a_store_directory_has_one_server_at_a_time(tmp_path):
    with LocalServer(store_dir=tmp_path) as first:
        with pytest.raises(UsageError, match="in use by another server") as refusal:
            LocalServer(store_dir=tmp_path).start()
        assert first.running

    assert (refusal.value.code, refusal.value.object) == ("store_in_use", str(tmp_path))


def test_a_store_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be a store directory") as refusal:
        LocalServer(store_dir=tmp_path / "file").start()

    assert refusal.value.code == "store_unusable"


def test_a_binary_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NotFound) as refusal:
        LocalServer(binary=tmp_path / "nats-server").start()

    assert (refusal.value.code, refusal.value.object) == ("server_not_found", str(tmp_path / "nats-server"))


def test_a_server_that_refuses_its_configuration_is_explained_by_its_log():
    server = LocalServer(extra_config="nonsense: true")

    with pytest.raises(Unreachable, match='unknown field "nonsense"') as failure:
        server.start()

    assert failure.value.code == "server_failed"
    assert not Path(failure.value.object).parent.exists()


def test_a_server_that_is_not_ready_in_time_is_ended():
    alone = LocalCluster().servers[0]

    with pytest.raises(Unreachable, match=r"did not become ready .*unavailable"):
        alone.start(timeout=0.5)

    assert is_gone(alone.pid)


async def test_extra_configuration_applies():
    with LocalServer(extra_config="authorization { token: s3cret }") as server:
        with pytest.raises(NatsError, match="Authorization"):
            async with jetstream(server.url, allow_reconnect=False):
                pass
        async with jetstream(server.url, token="s3cret") as js:  # noqa: S106 - the token of this test
            assert (await js.account_info()).streams == 0


async def test_servers_that_start_at_once_in_several_processes_do_not_disturb_each_other():
    program = textwrap.dedent("""
        import sys
        from mesh.jetstream.server import LocalServer
        with LocalServer() as first, LocalServer() as second:
            print(first.url, second.url, flush=True)
            sys.stdin.read()
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    programs = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, **pipes) for _ in range(3)]
    urls = [url for one in programs for url in (await one.stdout.readline()).decode().split()]

    assert len(set(urls)) == 6
    for number, url in enumerate(urls):
        async with jetstream(url) as js:
            await js.add_stream(name=f"OF_{number}", subjects=["only.here"])
            assert [stream.config.name for stream in await js.streams_info()] == [f"OF_{number}"]

    for one in programs:
        await one.communicate()
        assert one.returncode == 0


async def test_a_cluster_of_three_elects_a_leader_and_stores_a_stream_three_times():
    with LocalCluster() as cluster:
        async with jetstream(cluster.url) as js:
            info = await js.add_stream(name="THREE", subjects=["three.>"], num_replicas=3)
            assert {info.cluster.leader, *(peer.name for peer in info.cluster.replicas)} == {
                f"mesh-{server.port}" for server in cluster.servers
            }
            await js.publish("three.one", b"1")

        cluster.servers[0].kill()
        cluster.servers[0].start()

        async with jetstream(cluster.servers[0].url) as js:
            assert (await answer(lambda: js.get_last_msg("THREE", "three.one"))).data == b"1"


async def test_the_fixtures_of_the_plugin_give_a_server_and_a_namespace_of_ones_own(mesh_server, mesh_namespace):
    async with jetstream(mesh_server.url) as js:
        stream = mesh_namespace.upper().replace("-", "_")
        await js.add_stream(name=stream, subjects=[f"{mesh_namespace}.>"])
        ack = await js.publish(f"{mesh_namespace}.one", b"1")

    assert (ack.stream, ack.seq) == (stream, 1)
