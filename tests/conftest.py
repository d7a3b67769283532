import os
import sys
import tempfile
from pathlib import Path

from mesh.cli.proto import generate

# The contracts in tests/protos, importable here and in the processes that tests start.
_GENERATED = tempfile.TemporaryDirectory(prefix="mesh-test-protos-")
generate(Path(__file__).parent / "protos", Path(_GENERATED.name))
sys.path.insert(0, _GENERATED.name)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_GENERATED.name, os.environ.get("PYTHONPATH")]))


def pytest_unconfigure(config):
    _GENERATED.cleanup()
