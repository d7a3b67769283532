from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from mesh.agent.settlement import RetryPolicy
from mesh.contract.generated import event_type
from mesh.contract.namespace import Namespace
from mesh.runtime.execution import Environment
from mesh.runtime.gate import Gate
from mesh.testing.memory import MemoryDelivery, MemoryLog

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Untraced:
    def process(self, kind, event, agent, attempt):
        return nullcontext()

    def publish(self, kind, event):
        return nullcontext({"traceparent": f"of {kind.label}"})


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def names():
    return Namespace("mesh")


@pytest.fixture
def tracing():
    return Untraced()


@pytest.fixture
def environment(log, names, tracing):
    return Environment(names, log, tracing, RetryPolicy(base=1.0), Gate())


@pytest.fixture
def delivery(names):
    """Makes a delivery of a message; `subject` and `data` may say otherwise."""

    def make(message, *, headers=None, **changes):
        kind = event_type(type(message))
        event = {"ce-id": "e1", "ce-source": "/erp", "ce-type": kind.full_name}
        subject = changes.pop("subject", None) or kind.subject(names, kind.key(message))
        data = changes.pop("data", message.SerializeToString())
        return MemoryDelivery(subject, data, event if headers is None else headers, **changes)

    return make
