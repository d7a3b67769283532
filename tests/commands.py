"""Runs `mesh` as a person does, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def mesh(stage, *arguments, stdin="", cwd=ROOT, **environment):
    """The completed `mesh …` in the namespace of a stage; `stdin` is text, bytes or an open file."""
    source = {"stdin": stdin} if hasattr(stdin, "fileno") else {"input": _bytes(stdin)}
    result = subprocess.run(
        [sys.executable, "-m", "mesh", *(str(argument) for argument in arguments)],
        env=os.environ | stage.environment | environment,
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=50,
        **source,
    )
    result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()
    assert "Traceback" not in result.stderr, result.stderr
    return result


def document(result):
    """The JSON that a command printed when it did what it was asked."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def error(result):
    """The error that a command called with `--json` printed."""
    return json.loads(result.stderr)["error"]


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()
