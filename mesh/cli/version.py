"""`mesh version`."""

import platform

import typer

from mesh.cli.output import JsonOption, print_json


def version(*, as_json: JsonOption = False) -> None:
    """Print the version of mesh and its foundations."""
    from importlib.metadata import version as installed

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
