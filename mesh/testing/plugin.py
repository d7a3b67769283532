"""Pytest fixtures, there in every project that has mesh installed.

pytest imports this module in every session, so everything else is imported by the fixture that needs it.
"""

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mesh.client import Mesh
    from mesh.jetstream.server import LocalServer
    from mesh.settings import Settings


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


@pytest.fixture
def mesh_settings(mesh_server: "LocalServer", mesh_namespace: str) -> "Settings":
    """Settings for the server and the namespace of this test, for `Mesh.connect` and for agents."""
    from mesh.settings import NatsSettings, Settings  # noqa: PLC0415 - see the docstring of the module

    return Settings(namespace=mesh_namespace, health_port=0, nats=NatsSettings(url=mesh_server.url))


@pytest.fixture
async def mesh(mesh_settings: "Settings") -> "AsyncIterator[Mesh]":
    """A client of the mesh, connected to the server and the namespace of this test."""
    from mesh.client import Mesh  # noqa: PLC0415 - see the docstring of the module

    async with Mesh.connect(mesh_settings) as client:
        yield client
