import pytest
from support import Stage


@pytest.fixture
async def stage(mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace).open() as stage:
        yield stage
