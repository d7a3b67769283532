"""`mesh version`."""

import platform
from importlib.metadata import version as installed

import typer

from mesh.cli.output import JsonOption, print_json


def version(*, as_json: JsonOption = False) -> None:
    """Print the versions of mesh and of what it stands on."""
    versions = {
        "mesh": installed("mesh"),
        "python": platform.python_version(),
        "nats-py": installed("nats-py"),
        "protobuf": installed("protobuf"),
    }
    if as_json:
        print_json(versions)
        return
    for name, number in versions.items():
        typer.echo(f"{name:8} {number}")
