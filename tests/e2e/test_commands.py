"""`mesh server`, `dev`, `plan`, `apply`, `doctor`, and what all commands share."""

import json
import os
import subprocess
import sys

import pytest

from mesh.jetstream.server import LocalServer, free_ports

CLERK = """\
import sys
from mesh import Agent, Context
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced

print("version 1", file=sys.stderr)
agent = Agent("clerk")

@agent.on
async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    return OrderAccepted(order_id=event.order_id)
"""


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "staff.py").write_text(CLERK)
    return folder


def mesh(*arguments, env):
    command = [sys.executable, "-m", "mesh", *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=50)


def steps(result):
    return {step["object"]: step["verb"] for step in json.loads(result.stdout)["steps"]}


def test_before_a_command_runs_only_typer_and_the_standard_library_are_loaded():
    program = """
import sys, typer
before = set(sys.modules)
import mesh.cli
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert loaded == "mesh\n"


async def test_a_plan_changes_nothing(stage, app):
    result = mesh("plan", "staff:agent", "--app-dir", app, "--json", env=stage.environment)

    names = stage.names
    assert result.returncode == 0
    assert set(steps(result).values()) == {"create"}
    assert steps(result).keys() >= {f"stream {names.stream('shop')}", f"consumer {names.stream('shop')}/clerk"}
    assert await stage.api.find(f"STREAM.INFO.{names.stream('shop')}") is None
    assert await stage.api.find(f"STREAM.INFO.{names.journal_stream}") is None


async def test_the_second_apply_keeps_everything(stage, app):
    arguments = ("apply", "staff:agent", "--app-dir", app)

    first = mesh(*arguments, env=stage.environment)
    second = mesh(*arguments, "--json", env=stage.environment)

    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.endswith("applied; registered clerk\n")
    assert set(steps(second).values()) == {"keep"}
    assert (await stage.consumer("shop", "clerk"))["config"]["durable_name"] == "clerk"
    registered = await stage.api.call(
        f"STREAM.INFO.KV_{stage.names.registry_bucket}", {"subjects_filter": f"$KV.{stage.names.registry_bucket}.>"}
    )
    assert f"$KV.{stage.names.registry_bucket}.agent.clerk" in registered["state"]["subjects"]


async def test_when_one_step_is_refused_nothing_is_changed_unless_it_is_allowed(stage, app):
    arguments = ("apply", "staff:agent", "--app-dir", app, "--json")
    assert mesh(*arguments, env=stage.environment).returncode == 0
    stream, consumer = stage.names.stream("shop"), f"{stage.names.stream('shop')}.clerk"
    config = (await stage.api.call(f"STREAM.INFO.{stream}"))["config"]
    await stage.api.call(f"STREAM.UPDATE.{stream}", config | {"max_age": 2 * config["max_age"]})
    await stage.api.call(f"CONSUMER.DELETE.{consumer}")

    refused = mesh(*arguments, env=stage.environment)

    assert refused.returncode == 1
    assert steps(refused)[f"stream {stream}"] == "refuse"
    error = json.loads(refused.stderr.splitlines()[-1])["error"]
    assert (error["code"], error["object"]) == ("plan_refused", f"stream {stream}")
    assert "--allow-destructive" in error["message"]
    assert await stage.api.find(f"CONSUMER.INFO.{consumer}") is None

    allowed = mesh(*arguments, "--allow-destructive", env=stage.environment)

    assert allowed.returncode == 0
    assert steps(allowed)[f"stream {stream}"] == "update"
    assert (await stage.api.call(f"STREAM.INFO.{stream}"))["config"]["max_age"] == config["max_age"]
    assert await stage.api.find(f"CONSUMER.INFO.{consumer}")


async def test_pruning_takes_away_what_is_no_longer_read(stage, app):
    mesh("apply", "staff:agent", "--app-dir", app, env=stage.environment)
    (app / "staff.py").write_text(CLERK.replace("OrderPlaced", "OrderRefused"))

    widened = mesh("apply", "staff:agent", "--app-dir", app, env=stage.environment)
    pruned = mesh("apply", "staff:agent", "--app-dir", app, "--prune", env=stage.environment)

    assert "also reads" in widened.stdout
    assert "no longer reads" not in widened.stdout
    assert f"no longer reads {stage.names.name}.shop.evt.order_placed.* (0 pending)" in pruned.stdout
    filters = (await stage.consumer("shop", "clerk"))["config"]["filter_subjects"]
    assert not [subject for subject in filters if "order_placed" in subject]


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_without_nats_the_exit_code_is_3(app, command):
    url = f"nats://127.0.0.1:{free_ports(1)[0]}"

    result = mesh(command, "staff:agent", "--app-dir", app, "--json", env={"MESH_NATS__URL": url})

    assert result.returncode == 3
    assert result.stdout == ""
    assert json.loads(result.stderr.splitlines()[-1])["error"]["object"] == url


async def test_a_local_server_says_where_it_is_keeps_its_store_and_ends_with_0(start, tmp_path):
    (port,) = free_ports(1)
    store = tmp_path / "store"
    command = start("server", "--port", port, "--store-dir", store, env={})
    await command.prints(f"nats://127.0.0.1:{port}, store {store}")
    assert mesh("doctor", env={"MESH_NATS__URL": f"nats://127.0.0.1:{port}"}).returncode == 0

    command.signal()

    assert await command.code() == 0
    assert (store / "nats-server.log").exists()


async def test_a_local_server_fails_on_a_port_in_use(mesh_server, tmp_path):
    result = mesh("server", "--port", mesh_server.port, "--store-dir", tmp_path / "store", env={})

    assert result.returncode == 1
    assert result.stderr == (
        f"127.0.0.1:{mesh_server.port} is in use: stop what listens there or choose another port\n"
    )


async def test_agents_in_development_start_again_when_their_code_changes(start, app, tmp_path):
    (port,) = free_ports(1)
    module = app / "staff.py"
    options = ("--app-dir", app, "--port", port, "--store-dir", tmp_path / "store")
    command = start("dev", "staff:agent", *options, env={"MESH_HEALTH_PORT": "0"})
    await command.prints("running clerk")

    module.write_text(CLERK.replace("version 1", "version 2"))

    await command.prints("staff.py changed, starting again")
    await command.prints("version 2")
    await command.prints("running clerk", times=2)

    module.write_text(CLERK.replace("OrderAccepted:", "OrderAccepted"))

    await command.prints("the agents ended with code 2; waiting for a change")
    assert f'File "{module}", line 9' in command.printed
    assert f"module staff cannot be imported: {module}:9: expected ':'" in command.printed
    assert command.printed.count("  File ") == 1

    module.write_text(CLERK.replace("version 1", "version 3"))

    await command.prints("running clerk", times=3)
    assert "version 3" in command.printed
    command.signal()
    assert await command.code() == 0
    assert command.printed.count("stopping") == 3


def test_the_doctor_reports_checks_and_settings(mesh_server):
    result = mesh("doctor", "--json", env={"MESH_NATS__URL": mesh_server.url, "MESH_NATS__PASSWORD": "s3cret"})

    report = json.loads(result.stdout)
    checks = {check["check"]: check["status"] for check in report["checks"]}
    assert result.returncode == 0
    assert checks["nats"] == checks["nats version"] == checks["jetstream"] == checks["max_payload"] == "ok"
    assert report["settings"]["MESH_NATS__URL"] == mesh_server.url
    assert "s3cret" not in result.stdout


def test_the_doctor_without_nats_ends_with_3():
    url = f"nats://127.0.0.1:{free_ports(1)[0]}"

    result = mesh("doctor", "--json", env={"MESH_NATS__URL": url})

    (nats,) = [check for check in json.loads(result.stdout)["checks"] if check["check"] == "nats"]
    assert result.returncode == 3
    assert nats["status"] == "fail"
    assert "mesh server" in nats["cure"]


def test_the_doctor_finds_an_account_without_jetstream(tmp_path):
    accounts = "accounts { PLAIN { users: [ { user: ann, password: secret } ] } }\nno_auth_user: ann"
    with LocalServer(extra_config=accounts) as server:
        result = mesh("doctor", "--json", env={"MESH_NATS__URL": server.url})

    (jetstream,) = [check for check in json.loads(result.stdout)["checks"] if check["check"] == "jetstream"]
    assert result.returncode == 1
    assert jetstream["status"] == "fail"
    assert "enable JetStream" in jetstream["cure"]


async def test_the_doctor_finds_a_collector_that_is_away(mesh_server):
    env = {
        "MESH_NATS__URL": mesh_server.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}",
    }
    result = mesh("doctor", "--json", env=env)

    (tracing,) = [check for check in json.loads(result.stdout)["checks"] if check["check"] == "tracing"]
    assert (result.returncode, tracing["status"]) == (0, "warn")
