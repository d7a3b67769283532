"""The wheel, as a user gets it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)  # it may have to download what the wheel requires

CONTRACT = """\
syntax = "proto3";

package acme.v1;

import "buf/validate/validate.proto";
import "mesh/v1/options.proto";

message OrderPlaced {
  option (mesh.v1.event) = {};
  string order_id = 1 [(mesh.v1.key) = true, (buf.validate.field).string.min_len = 3];
}
"""


def uv(*arguments: str | Path) -> None:
    subprocess.run([ROOT / "scripts/uv", *arguments], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with `mesh[proto]` from the wheel and what it requires in the locked versions."""
    folder = tmp_path_factory.mktemp("wheel")
    constraints, environment = folder / "constraints.txt", folder / "venv"
    uv("build", "--wheel", "--out-dir", folder)
    uv("export", "--locked", "--all-extras", "--no-emit-project", "--no-hashes", "--quiet", "-o", constraints)
    uv("venv", "--python", sys.executable, environment)
    (wheel,) = folder.glob("*.whl")
    uv("pip", "install", "--python", environment, "--constraint", constraints, f"mesh[proto] @ {wheel.as_uri()}")
    return environment


def run(command: Path, *arguments: str, cwd: Path) -> list[str]:
    """Runs a command in a folder; returns the lines it prints."""
    done = subprocess.run([command, *arguments], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def test_the_wheel_brings_its_generated_code_with_it(environment: Path, tmp_path: Path) -> None:
    modules = ["mesh", "mesh.v1.options_pb2", "buf.validate.validate_pb2"]
    show = f"import {', '.join(modules)}\nfor module in [{', '.join(modules)}]: print(module.__file__)"

    places = run(environment / "bin/python", "-c", show, cwd=tmp_path)

    assert [environment in Path(place).parents for place in places] == [True, True, True]


def test_the_wheel_holds_nothing_but_the_product(environment: Path, tmp_path: Path) -> None:
    show = "import importlib.metadata as m; print(*m.files('mesh'), sep='\\n')"

    files = run(environment / "bin/python", "-c", show, cwd=tmp_path)

    folders = {file.split("/")[0] for file in files}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"..", "buf", "mesh"}
    assert "mesh/py.typed" in files


def test_contracts_of_a_user_import_those_in_the_wheel(environment: Path, tmp_path: Path) -> None:
    contract = tmp_path / "proto/acme/v1/events.proto"
    contract.parent.mkdir(parents=True)
    contract.write_text(CONTRACT)

    written = run(environment / "bin/mesh", "proto", "proto", cwd=tmp_path)

    assert written == ["acme/v1/events_pb2.py", "acme/v1/events_pb2.pyi"]
    use = "from acme.v1.events_pb2 import OrderPlaced; print(OrderPlaced(order_id='a-1').order_id)"
    assert run(environment / "bin/python", "-c", use, cwd=tmp_path) == ["a-1"]
