import json
import sys

import pytest

from mesh import cli
from mesh.cli.exit_code import exit_code
from mesh.cli.output import print_error
from mesh.errors import Conflict, ContractError, MeshError, NotFound, Refused, Unreachable, UsageError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mesh", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    code = caught.value.code
    return 0 if code is None else int(code)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (Unreachable("no"), 3),
        (NotFound("no"), 1),
        (Refused("no"), 1),
        (Conflict("no"), 1),
        (ContractError("no", code="bad"), 1),
        (MeshError("no", code="bad"), 1),
    ],
)
def test_the_kind_of_an_error_decides_the_exit_code(error, code):
    assert exit_code(error) == code


def test_an_error_is_one_sentence_with_its_cure(capsys):
    print_error(NotFound("there is no [red] lead", object="lead/1", cure="look elsewhere"), as_json=False)

    assert capsys.readouterr() == ("", "there is no [red] lead: look elsewhere\n")


def test_an_error_as_json_is_one_document_on_standard_error(capsys):
    print_error(NotFound("there is no lead", object="lead/ü", cure="look elsewhere"), as_json=True)

    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {
            "code": "not_found",
            "object": "lead/ü",
            "message": "there is no lead",
            "cure": "look elsewhere",
        }
    }


@pytest.mark.parametrize("arguments", [["nosuch"], ["run"], ["run", "--nosuch"], ["server", "--port", "x"]])
def test_wrong_usage_is_one_sentence_and_exit_code_2(monkeypatch, capsys, arguments):
    assert run(monkeypatch, *arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "--help" in err


def test_wrong_usage_as_json(monkeypatch, capsys):
    assert run(monkeypatch, "version", "--json", "more") == 2

    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["object"], error["cure"]) == ("usage", "mesh version", "see mesh version --help")


def test_a_setting_that_is_not_allowed_is_wrong_usage(monkeypatch, capsys):
    monkeypatch.setenv("MESH_LOG_LEVEL", "loud")

    assert run(monkeypatch, "run", "a:b") == 2
    assert "MESH_LOG_LEVEL='LOUD' is not allowed" in capsys.readouterr().err


def test_the_command_alone_shows_its_help(monkeypatch, capsys):
    assert run(monkeypatch) == 0
    assert "Commands:" in capsys.readouterr().out


def test_versions_as_json(monkeypatch, capsys):
    assert run(monkeypatch, "version", "--json") == 0
    assert json.loads(capsys.readouterr().out).keys() == {"mesh", "python", "nats-py", "protobuf"}


def test_ctrl_c_is_exit_code_130(monkeypatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mesh.cli.version.print_json", interrupted)

    assert run(monkeypatch, "version", "--json") == 130
