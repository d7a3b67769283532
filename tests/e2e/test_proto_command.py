"""`mesh proto` with the real compiler."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mesh.cli.proto import find_outdated, generate, proto
from mesh.errors import ContractError, MeshError, NotFound, UsageError

EVENTS = """\
syntax = "proto3";

package acme.v1;

import "acme/v1/money.proto";
import "buf/validate/validate.proto";
import "google/protobuf/timestamp.proto";
import "mesh/v1/options.proto";

option (mesh.v1.domain) = {name: "acme"};

message OrderPlaced {
  option (mesh.v1.event) = {};
  string order_id = 1 [(mesh.v1.key) = true, (buf.validate.field).string.min_len = 3];
  // What the customer pays.
  Money total = 2;
  google.protobuf.Timestamp placed = 3;
}
"""

MONEY = """\
syntax = "proto3";

package acme.v1;

message Money {
  int64 cents = 1;
}
"""

GENERATED = [Path(f"acme/v1/{name}_pb2.{suffix}") for name in ("events", "money") for suffix in ("py", "pyi")]


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    return write(tmp_path / "my protos", {"acme/v1/events.proto": EVENTS, "acme/v1/money.proto": MONEY})


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(proto)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_generated_code_is_imported_from_the_source_root_without_any_init_file(
    protos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    written = generate(protos, out)

    assert written == [out / path for path in GENERATED]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == written
    monkeypatch.syspath_prepend(out)
    events = importlib.import_module("acme.v1.events_pb2")
    money = importlib.import_module("acme.v1.money_pb2")
    assert events.OrderPlaced(total=money.Money(cents=5)).total.cents == 5


def test_stubs_keep_the_comments_of_the_contract(protos: Path, tmp_path: Path) -> None:
    generate(protos, tmp_path)

    assert '"""What the customer pays."""' in (tmp_path / "acme/v1/events_pb2.pyi").read_text()


def test_the_second_run_writes_nothing(protos: Path, tmp_path: Path) -> None:
    generate(protos, tmp_path)

    assert generate(protos, tmp_path) == []


def test_only_files_below_the_folder_are_generated_when_imports_start_above_it(tmp_path: Path) -> None:
    root = write(
        tmp_path / "proto",
        {
            "shop/v1/shop.proto": 'syntax = "proto3"; package shop.v1; import "bank/v1/bank.proto";'
            " message Sale { bank.v1.Account account = 1; }",
            "bank/v1/bank.proto": 'syntax = "proto3"; package bank.v1; message Account {}',
        },
    )

    written = generate(root / "shop", tmp_path, root=root)

    assert written == [tmp_path / "shop/v1/shop_pb2.py", tmp_path / "shop/v1/shop_pb2.pyi"]


def test_hidden_folders_are_skipped(protos: Path, tmp_path: Path) -> None:
    write(protos, {".venv/lib/broken.proto": "nonsense"})

    assert len(generate(protos, tmp_path)) == len(GENERATED)


def test_errors_name_file_and_line_and_nothing_is_written(protos: Path, tmp_path: Path) -> None:
    write(protos, {"acme/v1/money.proto": MONEY.replace("int64", "int46")})
    out = tmp_path / "out"

    with pytest.raises(ContractError) as caught:
        generate(protos, out)

    assert str(caught.value).splitlines()[0] == f'{protos}/acme/v1/money.proto:6: "int46" is not defined.'
    assert caught.value.object == f"{protos}/acme/v1/money.proto:6"
    assert not out.exists()


def test_a_warning_of_the_compiler_is_shown_and_does_not_fail(protos: Path, tmp_path: Path) -> None:
    unused = MONEY.replace("message", 'import "google/protobuf/empty.proto";\n\nmessage')
    write(protos, {"acme/v1/money.proto": unused})

    result = run(protos, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert f"{protos}/acme/v1/money.proto:5: warning: Import google/protobuf/empty.proto is unused." in result.stderr


def test_a_folder_without_proto_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no \.proto file"):
        generate(tmp_path, tmp_path)


def test_a_root_that_is_not_above_the_folder_is_refused(protos: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    root.mkdir()

    with pytest.raises(UsageError, match="is not above"):
        generate(protos, tmp_path, root=root)


def test_without_the_compiler_the_error_names_the_extra(
    protos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MeshError, match=r"pip install 'mesh\[proto\]'"):
        generate(protos, tmp_path)


def test_the_command_prints_what_it_wrote(protos: Path, tmp_path: Path) -> None:
    result = run(protos, "--out", tmp_path)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(tmp_path / path) for path in GENERATED]


def test_the_current_folder_is_the_default_source_root(
    protos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)

    assert run(protos).stdout.splitlines() == [str(path) for path in GENERATED]
    assert (project / GENERATED[0]).is_file()


def test_check_accepts_current_code(protos: Path, tmp_path: Path) -> None:
    generate(protos, tmp_path)

    result = run(protos, "--out", tmp_path, "--check")

    assert (result.exit_code, result.stdout) == (0, "")


def test_check_lists_edited_missing_and_left_over_files_and_writes_nothing(protos: Path, tmp_path: Path) -> None:
    generate(protos, tmp_path)
    edited, left_over, missing = (
        tmp_path / "acme/v1" / name for name in ("events_pb2.pyi", "gone_pb2.py", "money_pb2.py")
    )
    edited.write_text("edited")
    left_over.write_text("left over")
    missing.unlink()

    result = run(protos, "--out", tmp_path, "--check")

    assert isinstance(result.exception, ContractError)
    assert result.stdout.splitlines() == [str(path) for path in (edited, left_over, missing)]
    assert find_outdated(protos, tmp_path) == [edited, left_over, missing]


def test_types_of_generated_code_pass_mypy_strict(protos: Path, tmp_path: Path) -> None:
    generate(protos, tmp_path)
    use = """\
from typing import assert_type

from acme.v1.events_pb2 import OrderPlaced

assert_type(OrderPlaced(order_id="a").total.cents, int)
"""
    write(tmp_path, {"use.py": use})
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "use.py"]

    mypy = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert mypy.returncode == 0, mypy.stdout
