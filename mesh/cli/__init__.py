"""The `mesh` command line.

Its modules import typer and the standard library only; what costs time to load is loaded inside the commands.
"""

import sys
from typing import NoReturn

import typer

from mesh.cli import (
    agents,
    audit,
    demo,
    dev,
    dlq,
    doctor,
    emit,
    proto,
    provision,
    run,
    server,
    show,
    state,
    tail,
    version,
    why,
)
from mesh.cli.exit_code import ExitCode, exit_code
from mesh.cli.output import print_error
from mesh.errors import MeshError, UsageError

_PROGRAM = "mesh"

app = typer.Typer(
    name=_PROGRAM,
    help="Event-driven AI agents on NATS JetStream.",
    epilog="Exit codes: 0 done, 1 failed or not found, 2 wrong usage, 3 NATS cannot be reached.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # colours in --help would load rich, and triple its time
)
app.command()(server.server)
app.command()(run.run)
app.command()(dev.dev)
app.command()(provision.plan)
app.command()(provision.apply)
app.command()(emit.emit)
app.command()(tail.tail)
app.command()(show.show)
app.command()(why.why)
app.add_typer(state.app, name="state")
app.add_typer(agents.app, name="agents")
app.add_typer(dlq.app, name="dlq")
app.command()(audit.audit)
app.command()(proto.proto)
app.command()(doctor.doctor)
app.command()(demo.demo)
app.command()(version.version)


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for group in (app, dlq.app, state.app):
    group.callback(invoke_without_command=True)(_help)


def main() -> None:
    """Runs the command line and ends the process. A mistake of the user is one sentence, never a traceback."""
    try:
        sys.exit(app(prog_name=_PROGRAM, standalone_mode=False))
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else _PROGRAM
        _fail(UsageError(error.format_message().rstrip(".?"), object=command, cure=f"see {command} --help"))
    except MeshError as error:
        _fail(error)


def _fail(error: MeshError) -> NoReturn:
    print_error(error, as_json="--json" in sys.argv)
    sys.exit(exit_code(error))
