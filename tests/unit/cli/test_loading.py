import asyncio
import sys
from pathlib import Path

import pytest

from mesh.cli.loading import load_agents, run_async, user_traceback
from mesh.errors import UsageError

AGENT = """\
from mesh import Agent

clerk = Agent("clerk")
porter = Agent("porter")
text = "no agent"
"""


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch):
    """Modules of one test are not there in the next, which has others of the same name."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def app(tmp_path):
    (tmp_path / "staff.py").write_text(AGENT)
    return tmp_path


def refusal(app: Path, name: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_agents([name], app)
    return caught.value


def test_agents_come_in_the_order_they_were_named_in(app):
    assert [agent.name for agent in load_agents(["staff:porter", "staff:clerk"], app)] == ["porter", "clerk"]


def test_the_folder_agents_is_a_source_root_too(tmp_path):
    (tmp_path / "agents" / "night").mkdir(parents=True)
    (tmp_path / "agents" / "night" / "shift.py").write_text(AGENT)

    assert [agent.name for agent in load_agents(["night.shift:clerk"], tmp_path)] == ["clerk"]


@pytest.mark.parametrize("name", ["staff", "staff:", ":clerk", "staff:clerk:porter", ".staff:clerk", "staff/x:clerk"])
def test_a_name_of_another_form_is_refused(app, name):
    error = refusal(app, name)

    assert error.object == name
    assert "write module:attribute" in error.cure


def test_a_module_that_does_not_exist_is_named_with_the_folder_it_was_looked_for_in(app):
    error = refusal(app, "nosuch.thing:clerk")

    assert str(error).startswith(f"there is no module nosuch in {app}")
    assert (error.code, error.object) == ("module_not_found", "nosuch.thing")
    assert "--app-dir" in error.cure


def test_a_module_that_another_module_misses_is_an_error_of_that_module(app):
    (app / "broken.py").write_text("x = 1\nimport nosuch\n")

    error = refusal(app, "broken:agent")

    assert str(error) == (
        f"module broken cannot be imported: {app}/broken.py:2: ModuleNotFoundError: No module named 'nosuch':"
        " mend the module"
    )
    assert error.object == f"{app}/broken.py:2"


def test_a_missing_attribute_is_answered_with_the_agents_that_are_there(app):
    error = refusal(app, "staff:cook")

    assert str(error) == "staff:cook does not exist: name one of staff:clerk, staff:porter"
    assert (error.code, error.object) == ("not_an_agent", "staff:cook")


def test_something_that_is_no_agent_is_refused(app):
    assert str(refusal(app, "staff:text")).startswith("staff:text is a str, not an Agent: ")


def test_a_syntax_error_is_located(app):
    (app / "broken.py").write_text("x = 1\ndef f(:\n")

    assert f"{app}/broken.py:2: invalid syntax" in str(refusal(app, "broken:agent"))


def test_a_bad_declaration_is_located_and_keeps_its_cure(app):
    (app / "broken.py").write_text('from mesh import Agent\n\nagent = Agent("Not Legal")\n')

    error = refusal(app, "broken:agent")

    assert f"{app}/broken.py:3: agent name 'Not Legal' is not legal" in str(error)
    assert error.cure.startswith("use a lower-case letter")


def test_an_error_inside_a_library_is_located_where_the_user_called_it(app):
    (app / "broken.py").write_text("import json\n\nmodel = json.loads('{')\n")

    assert refusal(app, "broken:agent").object == f"{app}/broken.py:3"


def test_the_traceback_for_the_user_shows_no_frame_of_mesh(app):
    (app / "broken.py").write_text('from mesh import Agent\n\nagent = Agent("Not Legal")\n')
    cause = refusal(app, "broken:agent").__cause__

    assert cause is not None
    report = user_traceback(cause)

    assert f'File "{app}/broken.py", line 3' in report
    assert report.count("File ") == 1


def test_a_coroutine_runs_on_uvloop_and_gives_its_result():
    async def module_of_the_loop() -> str:
        return type(asyncio.get_running_loop()).__module__

    pytest.importorskip("uvloop")

    assert run_async(module_of_the_loop()) == "uvloop"
