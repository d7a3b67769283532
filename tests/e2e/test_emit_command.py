"""`mesh emit`: one event, and files of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
from commands import ROOT, document, error, mesh
from shop.v1.events_pb2 import OrderPlaced
from support import Stage, eventually

from mesh.jetstream.server import LocalServer

PLACED = "shop.v1.OrderPlaced"


@pytest.fixture
async def piped():
    """Starts a `mesh emit --jsonl -` that does not outlive its test."""
    started = []

    async def start(stage, **environment):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mesh", "emit", PLACED, "--jsonl", "-"),
            env=os.environ | stage.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def arrived(stage, number):
    return await stage.api.find(f"STREAM.INFO.{stage.names.stream('shop')}") and len(await stored(stage)) == number


async def stored(stage):
    return [OrderPlaced.FromString(one.data) for one in await stage.messages("shop", "evt.order_placed.>")]


async def test_one_event_is_published_once_under_its_id(stage):
    first = mesh(stage, "emit", PLACED, '{"order_id": "7", "quantity": 2}', "--id", "a", "--json")
    again = mesh(stage, "emit", "shop.order_placed", '{"order_id": "7", "quantity": 2}', "--id", "a")

    stream = stage.names.stream("shop")
    assert document(first) == {
        "id": "a",
        "type": PLACED,
        "subject": f"{stage.names.name}.shop.evt.order_placed.7",
        "stream": stream,
        "seq": 1,
        "duplicate": False,
    }
    assert (again.returncode, again.stdout) == (0, f"shop.order_placed order/7 was there already: a ({stream}:1)\n")
    assert await stored(stage) == [OrderPlaced(order_id="7", quantity=2)]


async def test_the_payload_may_come_from_standard_input_and_a_command_is_sent(stage):
    assert mesh(stage, "emit", "shop.v1.PackOrder", "-", stdin='{"order_id": "7"}').returncode == 0

    assert await stage.counts("shop") == {"cmd.pack_order": 1}


async def test_a_registered_type_is_known_where_its_code_is_not(stage):
    await stage.mesh.emit(OrderPlaced(order_id="1"))

    assert mesh(stage, "emit", "OrderPlaced", '{"order_id": "2"}', PYTHONPATH=str(ROOT)).returncode == 0

    assert [order.order_id for order in await stored(stage)] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "culprit"),
    [
        ((PLACED, '{"amount": 1}'), 1, f"{PLACED}.amount"),
        ((PLACED, '{"order_id": "7", "quantity": -1}'), 1, PLACED),
        ((PLACED, '{"quantity": 1}'), 1, f"{PLACED}.order_id"),
        (("shop.v1.OrderLost", "{}"), 1, "shop.v1.OrderLost"),
        ((PLACED, "{"), 2, "{"),
        (("shop.v1.Stock", "{}"), 2, "shop.v1.Stock"),
        ((PLACED,), 2, "JSON"),
        ((PLACED, "{}", "--csv", "x.csv"), 2, "JSON"),
        ((PLACED, "{}", "--columns", "a"), 2, "--csv"),
        ((PLACED, "--csv", "none.csv"), 2, "none.csv"),
        ((PLACED, "--csv", "none.csv", "--map", "a"), 2, "--map"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_the_object_and_nothing_is_sent(
    stage, arguments, exit_code, culprit
):
    result = mesh(stage, "emit", *arguments, "--json")

    assert (result.returncode, result.stdout, error(result)["object"]) == (exit_code, "", culprit)
    assert await stage.subjects("shop") == {}


async def test_a_local_package_that_cannot_be_imported_is_named(stage, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/__init__.py").write_text("1 +\n")

    result = mesh(stage, "emit", "broken.v1.Event", "{}", "--json", cwd=tmp_path, PYTHONPATH=str(ROOT))

    assert (result.returncode, error(result)["code"]) == (2, "import_failed")
    assert "broken/__init__.py:1" in error(result)["message"]


async def test_the_rows_of_a_csv_file_that_fit_are_sent_and_the_others_are_reported(stage, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text('order_id,quantity,colour\n1,2,red\n2,many,red\n3,-1,red\n"4"x,1,red\n5,6,"a\nb"\n,1,red\n7,8\n')

    result = mesh(stage, "emit", PLACED, "--csv", file)

    assert (result.returncode, result.stdout) == (1, "sent 2, duplicates 0, rejected 5\n")
    notice, *rejected = result.stderr.splitlines()
    assert notice == f"{PLACED} has no field for: colour"
    assert sorted(line.split(": ")[0] for line in rejected) == [f"{file}:{number}" for number in (3, 4, 5, 8, 9)]
    assert [(order.order_id, order.quantity) for order in await stored(stage)] == [("1", 2), ("5", 6)]


async def test_a_file_that_is_sent_again_with_ids_changes_nothing(stage, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("number,amount\n" + "".join(f"{n},{n}\n" for n in range(1000)))
    arguments = ("emit", PLACED, "--csv", file, "--map", "quantity=amount", "--id", "number", "--json")

    assert document(mesh(stage, *arguments)) == {"sent": 1000, "duplicates": 0, "rejected": 0}
    assert document(mesh(stage, *arguments)) == {"sent": 0, "duplicates": 1000, "rejected": 0}
    orders = await stored(stage)
    assert [(order.order_id, order.quantity) for order in orders] == [(str(n), n) for n in range(1000)]


async def test_a_file_may_come_from_standard_input(stage, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_bytes("\ufefforder_id\nZürich\n".encode() + b"\xff\n")

    with rows.open() as file:
        from_csv = mesh(stage, "emit", PLACED, "--csv", "-", "--json", stdin=file)
    from_jsonl = mesh(stage, "emit", PLACED, "--jsonl", "-", stdin='{"order_id": "8"}\n\n{"order_id": "9"}')

    assert (from_csv.returncode, json.loads(from_csv.stdout)) == (1, {"sent": 1, "duplicates": 0, "rejected": 1})
    assert error(from_csv)["object"] == "-:3"
    assert (from_jsonl.returncode, from_jsonl.stdout) == (0, "sent 2, duplicates 0, rejected 0\n")
    assert [order.order_id for order in await stored(stage)] == ["Zürich", "8", "9"]


async def test_rows_are_sent_while_their_source_is_still_open_and_counted_when_it_is_interrupted(stage, piped):
    process = await piped(stage)
    process.stdin.write(b'{"order_id": "1"}\n{"order_id": "2"}\n')
    await process.stdin.drain()
    await eventually(lambda: arrived(stage, 2))

    process.send_signal(signal.SIGINT)
    output, errors = await process.communicate()

    assert (process.returncode, output, errors) == (130, b"sent 2, duplicates 0, rejected 0\n", b"")


async def test_a_server_that_dies_meanwhile_leaves_a_count_of_what_was_acknowledged(mesh_namespace, piped):
    with LocalServer() as server:
        async with Stage(server, mesh_namespace).open() as stage:
            process = await piped(stage, MESH_NATS__REQUEST_TIMEOUT="0.2")
            process.stdin.write(b"".join(b'{"order_id": "%d"}\n' % number for number in range(50)))
            await process.stdin.drain()
            await eventually(lambda: arrived(stage, 50))
            server.kill()
            output, errors = await process.communicate(b'{"order_id": "lost"}\n')

    assert (process.returncode, output) == (3, b"sent 50, duplicates 0, rejected 0\n")
    assert b"50 rows were acknowledged before: repeat the command; with --id" in errors


async def test_without_a_server_the_exit_code_is_3(stage):
    nowhere = {"MESH_NATS__URL": "nats://127.0.0.1:1", "MESH_NATS__CONNECT_TIMEOUT": "0.2"}

    result = mesh(stage, "emit", PLACED, "{}", "--json", **nowhere)

    assert (result.returncode, error(result)["code"]) == (3, "unreachable")
