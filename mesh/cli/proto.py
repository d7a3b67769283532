"""`mesh proto`: Python modules and typed stubs from `.proto` files."""

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from mesh.errors import ContractError, NotFound, UsageError

_DIAGNOSTIC = re.compile(r"^(?P<file>[^:\n]+\.proto):(?:(?P<line>\d+):\d+:)? (?P<message>.*)$", re.MULTILINE)


def proto(
    protos: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="Folder whose .proto files, at any depth, are generated."
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            file_okay=False,
            help="Source root to write to: DIR/acme/v1/events.proto becomes OUT/acme/v1/events_pb2.py,"
            " imported as acme.v1.events_pb2.",
        ),
    ] = Path(),
    root: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder above DIR that imports between .proto files start from; DIR itself when not given.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; list what is out of date and exit with 1 if anything is.")
    ] = False,
) -> None:
    """Generate Python code from .proto files.

    The options of mesh (mesh/v1/options.proto), the rules of protovalidate (buf/validate/validate.proto) and Google's
    well-known types can be imported without being copied. Prints the files it wrote; what is right is left alone.
    """
    if not check:
        for path in generate(protos, out, root=root):
            typer.echo(path)
        return
    outdated = find_outdated(protos, out, root=root)
    for path in outdated:
        typer.echo(path)
    if outdated:
        raise ContractError(
            f"the code generated from {protos} is out of date",
            code="generated_code_outdated",
            object=str(outdated[0]),
            cure="run the command without --check, and delete listed files that no .proto file stands for any more",
        )


def generate(protos: Path, out: Path, *, root: Path | None = None) -> list[Path]:
    """Writes a module and a typed stub for every `.proto` file below a folder; hidden folders are skipped.

    Args:
        protos: The folder. Its files are generated; what they import is only read.
        out: Source root to write below; created when missing.
        root: Folder that imports between the files start from: `protos`, the default, or one above it.

    Returns:
        The files that were written, sorted. A file that is already right is not touched.

    Raises:
        ContractError: A `.proto` file is wrong; the message lists its errors as `file:line: message`. Nothing is
            written.
        NotFound: There is no `.proto` file.
        UsageError: The compiler is not installed, or `root` is not above `protos`.
    """
    written = []
    for path, code in _render(protos, root or protos).items():
        target = out / path
        if not _holds(target, code):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(code)
            written.append(target)
    return written


def find_outdated(protos: Path, out: Path, *, root: Path | None = None) -> list[Path]:
    """Lists, sorted, the generated files that are missing, differ, or lie beside the others without a `.proto` file.

    Arguments and errors are those of `generate`.
    """
    fresh = {out / path: code for path, code in _render(protos, root or protos).items()}
    present = {path for folder in {path.parent for path in fresh} for path in folder.glob("*_pb2.py*")}
    return sorted((present - fresh.keys()) | {path for path, code in fresh.items() if not _holds(path, code)})


def _holds(path: Path, code: bytes) -> bool:
    return path.is_file() and path.read_bytes() == code


def _render(protos: Path, root: Path) -> dict[Path, bytes]:
    """The generated code of a folder by path below the source root, sorted."""
    folder = protos.resolve()
    found = {path.relative_to(folder) for path in folder.rglob("*.proto")}
    sources = [folder / path for path in sorted(found) if not any(part.startswith(".") for part in path.parts)]
    if not sources:
        raise NotFound(
            f"{protos} holds no .proto file", code="no_proto_file", object=str(protos), cure="name a folder that does"
        )
    if not folder.is_relative_to(root.resolve()):
        raise UsageError(f"{root} is not above {protos}", object="--root", cure="name a folder above the .proto files")
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(sources, root, scratch)
        generated = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        return {path.relative_to(scratch): path.read_bytes() for path in generated}


def _protoc(sources: list[Path], root: Path, out: str) -> None:
    plugin = "protoc-gen-mypy"
    stubs = shutil.which(plugin, path=sysconfig.get_path("scripts")) or shutil.which(plugin)
    if stubs is None or importlib.util.find_spec("grpc_tools") is None:
        raise UsageError(
            "the Protobuf compiler is not installed",
            code="missing_extra",
            object="mesh[proto]",
            cure="pip install 'mesh[proto]'",
        )
    includes = [f"--proto_path={path}" for path in (root.resolve(), *_own_protos())]
    outputs = [f"--plugin={plugin}={stubs}", f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    # A process of its own, because protoc writes its errors to the file descriptor behind sys.stderr.
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *map(str, sources)]
    protoc = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    report = _DIAGNOSTIC.sub(lambda found: _located(found, root), protoc.stderr).strip()
    if protoc.returncode:
        raise ContractError(report, code="invalid_proto", object=report.partition(": ")[0])
    if report:
        typer.echo(report, err=True)


def _located(diagnostic: re.Match[str], root: Path) -> str:
    """A diagnostic of protoc, which names files relative to the root, as `file:line: message`."""
    line = f":{diagnostic['line']}" if diagnostic["line"] else ""
    return f"{root / diagnostic['file']}{line}: {diagnostic['message']}"


def _own_protos() -> list[Path]:
    """Folders that hold mesh/v1/options.proto and buf/validate/validate.proto: in the wheel, else in the repository."""
    package = Path(__file__).parents[1]
    packaged = package / "proto"
    return [packaged] if packaged.is_dir() else [package.parent / "proto", package.parent / "vendor/proto"]
