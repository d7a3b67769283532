"""From `module:agent` on the command line to agents, and from a coroutine to its result."""

import asyncio
import sys
import traceback
from collections.abc import Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.errors import MeshError, UsageError

if TYPE_CHECKING:
    from mesh.agent.agent import Agent

AgentsArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE:AGENT...", help="Agents, as in revops.pricing:agent.", show_default=False)
]
"""The type of a command's parameter `agents: AgentsArgument`."""

AppDirOption = Annotated[
    Path,
    typer.Option(exists=True, file_okay=False, help="Folder that modules are imported from, and its folder agents/."),
]
"""The type of a command's parameter `app_dir: AppDirOption = Path()`."""

_SOURCE_ROOT = "agents"


def load_agents(names: Sequence[str], app_dir: Path = Path()) -> "list[Agent[Any]]":
    """Imports agents.

    Args:
        names: `module:attribute`, as in `revops.pricing:agent`.
        app_dir: Folder to import from; its folder `agents` too, when there is one.

    Raises:
        UsageError: A name has another form, there is no such module or attribute, it is not an agent, or the module
            fails when it is imported; then the exception of the module is the cause.
    """
    for folder in (app_dir, app_dir / _SOURCE_ROOT):
        if folder.is_dir() and str(folder.resolve()) not in sys.path:
            sys.path.insert(0, str(folder.resolve()))
    return [_load(name, app_dir) for name in names]


def run_async[T](main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, on uvloop where it is available."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    return asyncio.run(main, loop_factory=new_event_loop)


def _load(name: str, app_dir: Path) -> "Agent[Any]":
    from mesh.agent.agent import Agent

    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(
            f"{name!r} does not name an agent", object=name, cure="write module:attribute, as in revops.pricing:agent"
        )
    try:
        module = import_module(module_name)
    except Exception as error:  # noqa: BLE001 - the module may raise whatever it likes
        raise _import_error(module_name, app_dir, error) from error
    agent = getattr(module, attribute, None)
    if isinstance(agent, Agent):
        return agent
    what = f"is a {type(agent).__name__}, not an Agent" if hasattr(module, attribute) else "does not exist"
    found = [f"{module_name}:{key}" for key, value in vars(module).items() if isinstance(value, Agent)]
    cure = f"name one of {', '.join(found)}" if found else 'add one: agent = Agent("name")'
    raise UsageError(f"{name} {what}", code="not_an_agent", object=name, cure=cure)


def _import_error(module: str, app_dir: Path, error: Exception) -> UsageError:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return UsageError(
            f"there is no module {module} in {app_dir.resolve()}",
            code="module_not_found",
            object=module,
            cure="name the folder it is imported from with --app-dir",
        )
    if isinstance(error, SyntaxError) and error.filename:
        where, what = f"{error.filename}:{error.lineno}", error.msg
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where, what = f"{frame.filename}:{frame.lineno}", f"{type(error).__name__}: {error}"
    cure = error.cure if isinstance(error, MeshError) else "mend the module"
    return UsageError(f"module {module} cannot be imported: {where}: {what}", code="import_failed", object=module, cure=cure)
