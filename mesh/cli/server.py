"""`mesh server`: a local nats-server in the foreground."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.jetstream.server import LocalServer

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port for clients; 0: a free one.")]
StoreDirOption = Annotated[Path, typer.Option(file_okay=False, help="Folder for streams, log and configuration; kept.")]

_POLL = 0.5


def server(*, port: PortOption = 4222, store_dir: StoreDirOption = Path(".mesh")) -> None:
    """Run a local nats-server until SIGTERM or Ctrl-C."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    local = start_server(port, store_dir)
    try:
        while not stopped.wait(_POLL):
            if not local.running:
                raise MeshError(
                    "nats-server has ended", code="server_ended", object=local.url, cure=f"read {local.log_path}"
                )
    finally:
        local.stop()


def start_server(port: int, store_dir: Path) -> "LocalServer":
    """Starts a local server and prints where it is.

    Raises:
        MeshError: It does not start. Whatever the reason, what was asked for has failed: exit code 1.
    """
    from mesh.jetstream.server import LocalServer

    local = LocalServer(port=port, store_dir=store_dir)
    try:
        local.start()
    except MeshError as error:
        raise MeshError(error.args[0], code=error.code, object=error.object, cure=error.cure) from error
    typer.echo(f"nats-server {local.version} at {local.url}, store {local.store_dir}")
    return local
