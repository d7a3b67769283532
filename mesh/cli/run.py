"""`mesh run`: agents in production."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.loading import AgentsArgument, AppDirOption, load_agents, run_async, user_traceback
from mesh.errors import UsageError


def run(
    agents: AgentsArgument,
    *,
    app_dir: AppDirOption = Path(),
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of /livez, /readyz and /startupz, 0 for none. With several workers, each has the next one.",
            show_default="MESH_HEALTH_PORT",
        ),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where a module raised that cannot be imported.")
    ] = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run agents until SIGTERM or Ctrl-C.

    Running handlers get MESH_SHUTDOWN_GRACE seconds to finish, then their events go to others. A second signal ends
    everything at once, with exit code 130.
    """
    import logging

    from mesh.cli.workers import supervise, work
    from mesh.settings import Settings

    settings = Settings.load()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    if workers > 1:
        options = ["--app-dir", str(app_dir), *(["--traceback"] if traceback else [])]
        raise typer.Exit(run_async(supervise([*agents, *options], workers, settings, health_port)))
    try:
        loaded = load_agents(agents, app_dir)
    except UsageError as error:
        if traceback and error.code == "import_failed" and error.__cause__:
            typer.echo(user_traceback(error.__cause__), err=True, nl=False)
        raise
    run_async(work(loaded, settings, health_port, supervised=supervised))
