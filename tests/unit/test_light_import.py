import subprocess
import sys

import pytest

HEAVY = {"nats", "opentelemetry", "protovalidate", "pydantic_settings", "typer"}


@pytest.mark.parametrize(
    "code",
    [
        "import mesh",
        "import mesh.contract.generated",
        "from mesh.contract.generated import event_type; from shop.v1.events_pb2 import Stock; event_type(Stock)",
        "from mesh import MeshError, Reject, Retry",
    ],
)
def test_a_contract_loads_no_broker_tracer_validator_or_command_line(code):
    script = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert run.stderr == ""
    assert "mesh" in run.stdout.split()
    assert HEAVY.isdisjoint(run.stdout.split())
