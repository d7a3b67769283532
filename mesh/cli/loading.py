"""From `module:agent` on the command line to agents, and from a coroutine to its result."""

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
    from mesh.contract.event_type import EventType

AgentsArgument = Annotated[list[str], typer.Argument(metavar="MODULE:AGENT...", help="As in revops.pricing:agent.")]
"""The type of a command's parameter `agents: AgentsArgument`."""

AppDirOption = Annotated[
    Path,
    typer.Option(exists=True, file_okay=False, help="Folder to import from, and from its folder agents if it has one."),
]
"""The type of a command's parameter `app_dir: AppDirOption = Path()`."""

_SOURCE_ROOT = "agents"
_PACKAGE = str(Path(__file__).parents[1])


def load_agents(names: Sequence[str], app_dir: Path = Path()) -> "list[Agent[Any]]":
    """Imports agents.

    Args:
        names: `module:attribute`, as in `revops.pricing:agent`.
        app_dir: Folder to import from; its folder `agents` too, when there is one.

    Raises:
        UsageError: A name has another form, there is no such module or attribute, it is not an agent, or the module
            fails when it is imported; then the exception of the module is the cause.
    """
    app_dir = app_dir.resolve()
    _search(app_dir)
    return [_load(name, app_dir) for name in names]


def load_types(package: str) -> "list[EventType]":
    """Imports the event, command and state types of a package, or of its versions, from the current folder.

    Args:
        package: Dotted name of a Python package; one that does not exist has no types.

    Raises:
        UsageError: It fails when it is imported; its exception is the cause.
        ContractError: A message breaks the contract.
    """
    from mesh.contract.generated import importable_types

    if not all(part.isidentifier() for part in package.split(".")):
        return []
    app_dir = Path.cwd()
    _search(app_dir)
    try:
        return importable_types(package)
    except MeshError:
        raise
    except Exception as error:
        raise _import_error(package, app_dir, error) from error


def user_traceback(error: BaseException) -> str:
    """The traceback of an exception without the frames of mesh and of the import machinery."""
    report = traceback.TracebackException.from_exception(error)
    report.stack = traceback.StackSummary.from_list(_user_frames(error))
    return "".join(report.format(chain=False))


def run_async[T](main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, on uvloop where it is available."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    return asyncio.run(main, loop_factory=new_event_loop)


def _search(app_dir: Path) -> None:
    """Makes Python look for modules in a folder, and in its folder agents."""
    for folder in (app_dir, app_dir / _SOURCE_ROOT):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def _load(name: str, app_dir: Path) -> "Agent[Any]":
    from mesh.agent.agent import Agent

    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UsageError(
            f"{name!r} does not name an agent", object=name, cure="write module:attribute, as in revops.pricing:agent"
        )
    try:
        module = import_module(module_name)
    except Exception as error:
        raise _import_error(module_name, app_dir, error) from error
    agent = getattr(module, attribute, None)
    if isinstance(agent, Agent):
        return agent
    what = f"is a {type(agent).__name__}, not an Agent" if hasattr(module, attribute) else "does not exist"
    found = [f"{module_name}:{key}" for key, value in vars(module).items() if isinstance(value, Agent)]
    cure = f"name one of {', '.join(found)}" if found else 'add one: agent = Agent("name")'
    raise UsageError(f"{name} {what}", code="not_an_agent", object=name, cure=cure)


def _import_error(module: str, app_dir: Path, error: Exception) -> UsageError:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return UsageError(
            f"there is no module {error.name} in {app_dir}",
            code="module_not_found",
            object=module,
            cure="name the folder it is imported from with --app-dir",
        )
    frames = _user_frames(error)
    own = [f for f in frames if Path(f.filename).is_relative_to(app_dir) and "site-packages" not in f.filename]
    where = "".join(f"{frame.filename}:{frame.lineno}" for frame in (own or frames)[-1:]) or module
    what = f"{type(error).__name__}: {error}"
    cure = "mend the module"
    if isinstance(error, SyntaxError):
        where, what = f"{error.filename}:{error.lineno}", error.msg
    elif isinstance(error, MeshError):
        what, cure = error.args[0], error.cure
    return UsageError(
        f"module {module} cannot be imported: {where}: {what}", code="import_failed", object=where, cure=cure
    )


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    machinery = (_PACKAGE, "<frozen importlib", import_module.__code__.co_filename)
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(machinery)]
