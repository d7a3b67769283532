"""`mesh dev`: agents that are started again whenever their code changes, beside a server of their own."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.loading import AgentsArgument, AppDirOption, run_async
from mesh.cli.server import PortOption, StoreDirOption, start_server
from mesh.errors import UsageError

_GRACE = "2"  # seconds; nobody waits thirty for a handler that has just been rewritten


def dev(
    agents: AgentsArgument,
    *,
    app_dir: AppDirOption = Path(),
    own_server: Annotated[
        bool, typer.Option("--server/--no-server", help="Start a server, or use the one at MESH_NATS__URL.")
    ] = True,
    port: PortOption = 4222,
    store_dir: StoreDirOption = Path(".mesh"),
) -> None:
    """Run agents on a local server, reload on change.

    Every change of a .py file below --app-dir starts the agents again. What the server stored is kept.
    """
    try:
        from mesh.cli.reload import run_and_reload
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed", code="missing_extra", object="mesh[dev]", cure="pip install 'mesh[dev]'"
        ) from None
    env = {"MESH_SHUTDOWN_GRACE": os.environ.get("MESH_SHUTDOWN_GRACE", _GRACE)}
    with ExitStack() as stack:
        if own_server:
            server = start_server(port, store_dir)
            stack.callback(server.stop)
            env["MESH_NATS__URL"] = server.url
        run_async(run_and_reload(agents, app_dir, env))
