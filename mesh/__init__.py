"""Event-driven AI agents on NATS JetStream.

The names below load on first use, so that importing a contract, or `mesh` alone, loads no broker, tracer or validator.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.agent.agent import Agent
    from mesh.agent.claims import AlreadyClaimed, ClaimOrderError
    from mesh.agent.context import Context
    from mesh.client import Emitted, Mesh, Record
    from mesh.errors import (
        Conflict,
        ContractError,
        MeshError,
        NotFound,
        Refused,
        Reject,
        Retry,
        Unreachable,
        UsageError,
    )
    from mesh.settings import Settings

__all__ = [
    "Agent",
    "AlreadyClaimed",
    "ClaimOrderError",
    "Conflict",
    "Context",
    "ContractError",
    "Emitted",
    "Mesh",
    "MeshError",
    "NotFound",
    "Record",
    "Refused",
    "Reject",
    "Retry",
    "Settings",
    "Unreachable",
    "UsageError",
]

_HOME = {
    "Agent": "mesh.agent.agent",
    "AlreadyClaimed": "mesh.agent.claims",
    "ClaimOrderError": "mesh.agent.claims",
    "Context": "mesh.agent.context",
    "Emitted": "mesh.client",
    "Mesh": "mesh.client",
    "Record": "mesh.client",
    "Settings": "mesh.settings",
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - PEP 562: nothing is loaded before it is asked for

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "mesh.errors")), name)


def __dir__() -> list[str]:
    return __all__
