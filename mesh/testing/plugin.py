"""Pytest fixtures, there in every project that has mesh installed.

pytest imports this module in every session, so everything else is imported by the fixture that needs it.
"""

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mesh.jetstream.server import LocalServer


@pytest.fixture(scope="session")
def mesh_server() -> "Iterator[LocalServer]":
    """A real nats-server with JetStream on a free port, with a temporary store, shared by all tests of the session."""
    from mesh.jetstream.server import LocalServer  # noqa: PLC0415 - see the docstring of the module

    with LocalServer() as server:
        yield server


@pytest.fixture
def mesh_namespace() -> str:
    """A namespace that no other test has, so that tests on one server do not see each other's streams."""
    return f"t-{secrets.token_hex(6)}"
