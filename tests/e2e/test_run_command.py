"""`mesh run`, in one process and in several."""

import json
import os
import signal
import socket
import urllib.error
import urllib.request

import pytest
from shop.v1.events_pb2 import OrderPlaced
from support import eventually

from mesh.jetstream.presence import PresenceBoard
from mesh.jetstream.server import LocalServer, free_ports

CLERK = """\
import asyncio, sys, time
from mesh import Agent, Context
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced

agent = Agent("clerk")

@agent.on
async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    print("accepting", event.order_id, file=sys.stderr, flush=True)
    if event.order_id == "slow":
        await asyncio.sleep(60)
    if event.order_id == "stuck":
        time.sleep(60)
    return OrderAccepted(order_id=event.order_id)
"""


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "staff.py").write_text(CLERK)
    return folder


@pytest.fixture
def run(start, stage, app):
    """Starts `mesh run` for the agent of this file."""

    def run(*options, env=None, agent="staff:agent"):
        return start("run", agent, "--app-dir", app, *options, env=stage.environment | (env or {}))

    return run


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def workers(stage):
    """Process ids of the agents that have announced themselves."""
    return {presence.pid for presence in await PresenceBoard(stage.mesh.connection, stage.names).alive()}


async def test_sigterm_drains_and_ends_with_0(run, stage):
    command = run()
    await command.prints("running clerk")
    await stage.mesh.emit(OrderPlaced(order_id="1"))
    await command.prints("accepting 1")

    command.signal()

    assert await command.code() == 0
    assert await stage.settled("shop", "clerk")


@pytest.mark.parametrize("order", ["slow", "stuck"])
async def test_a_second_signal_ends_at_once_even_when_a_handler_blocks_the_loop(run, stage, order):
    command = run()
    await command.prints("running clerk")
    await stage.mesh.emit(OrderPlaced(order_id=order))
    await command.prints(f"accepting {order}")

    command.signal(signal.SIGTERM)
    if order == "slow":
        await command.prints("stopping")
    command.signal(signal.SIGINT)

    assert await command.code() == 130


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
async def test_without_nats_the_exit_code_is_3_and_the_sentence_says_where_it_was_looked_for(run, options):
    url = f"nats://127.0.0.1:{free_ports(1)[0]}"

    command = run(*options, env={"MESH_NATS__URL": url})

    assert await command.code() == 3
    assert f"NATS at {url} cannot be reached" in command.printed
    assert "Traceback" not in command.printed


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
async def test_a_module_that_does_not_exist_is_wrong_usage(run, options):
    command = run(*options, agent="nosuch:agent")

    assert await command.code() == 2
    assert "there is no module nosuch" in command.printed
    assert "Traceback" not in command.printed


async def test_a_connection_that_is_closed_for_good_ends_with_3(start, app, tmp_path):
    config = "authorization {{ users: [ {{ user: ann, password: {} }} ] }}"
    with LocalServer(store_dir=tmp_path / "store", extra_config=config.format("old")) as server:
        env = {"MESH_NATS__URL": server.url, "MESH_NATS__USER": "ann", "MESH_NATS__PASSWORD": "old"}
        command = start("run", "staff:agent", "--app-dir", app, "--health-port", "0", env=env)
        await command.prints("running clerk")
        file = server.store_dir / "nats-server.conf"
        file.write_text(file.read_text().replace("old", "new"))
        os.kill(server.pid, signal.SIGHUP)

        assert await command.code() == 3

    assert "NATS closed the connection for good" in command.printed


async def test_health_follows_the_connection_to_nats(start, app, tmp_path):
    (port,) = free_ports(1)
    with LocalServer(store_dir=tmp_path / "store") as server:
        env = {"MESH_NATS__URL": server.url}
        command = start("run", "staff:agent", "--app-dir", app, "--health-port", port, env=env)
        await command.prints("running clerk")

        assert get(port, "/livez") == (200, {"status": "alive", "agents": ["clerk"]})
        assert get(port, "/startupz") == (200, {"status": "started", "agents": ["clerk"]})
        assert get(port, "/readyz") == (200, {"status": "ready", "agents": ["clerk"]})

        server.kill()

        await eventually(lambda: get(port, "/readyz") == (503, {"status": "not ready", "agents": ["clerk"]}))
        assert get(port, "/livez")[0] == 200

        server.restart()

        await eventually(lambda: get(port, "/readyz")[0] == 200)
        command.signal()
        assert await command.code() == 0


async def test_a_draining_agent_is_alive_and_not_ready(run, stage):
    (port,) = free_ports(1)
    command = run("--health-port", str(port))
    await command.prints("running clerk")
    await stage.mesh.emit(OrderPlaced(order_id="slow"))
    await command.prints("accepting slow")

    command.signal()
    await command.prints("stopping")

    assert (get(port, "/readyz")[0], get(port, "/livez")[0]) == (503, 200)


async def test_a_health_port_in_use_is_an_error_only_when_it_was_asked_for(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        asked = run("--health-port", port)
        assert await asked.code() == 2
        assert f"port {port} cannot serve the health endpoints" in asked.printed

        default = run(env={"MESH_HEALTH_PORT": port})
        await default.prints("running clerk")
        assert f"port {port} cannot serve the health endpoints" in default.printed


async def test_a_killed_worker_is_started_again_and_all_stop_together(run, stage):
    ports = free_ports(1)
    ports.append(ports[0] + 1)
    command = run("--workers", "2", env={"MESH_HEALTH_PORT": str(ports[0])})
    await command.prints("running clerk", times=2)
    await eventually(lambda: get(ports[0], "/readyz")[0] == get(ports[1], "/readyz")[0] == 200)
    first, second = await eventually(lambda: two(stage))

    os.kill(first, signal.SIGKILL)

    await command.prints(f"(pid {first}) ended with code -9, starting it again")
    await command.prints("running clerk", times=3)
    command.signal()
    assert await command.code() == 0
    assert not is_alive(second)
    assert command.printed.count("stopping") == 2


async def two(stage):
    found = await workers(stage)
    return found if len(found) == 2 else None


async def test_a_second_signal_kills_all_workers(run, stage):
    command = run("--workers", "2")
    pids = await eventually(lambda: two(stage))
    await stage.mesh.emit(OrderPlaced(order_id="stuck"))
    await command.prints("accepting stuck")

    command.signal()
    await command.prints("stopping")
    command.signal()

    assert await command.code() == 130
    await eventually(lambda: not any(map(is_alive, pids)))


async def test_workers_stop_when_their_parent_is_killed(run, stage):
    command = run("--workers", "2")
    pids = await eventually(lambda: two(stage))

    command.process.kill()

    await eventually(lambda: not any(map(is_alive, pids)))
    assert command.printed.count("stopping") == 2
