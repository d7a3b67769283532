import pytest

from mesh import Agent


@pytest.fixture
def agent():
    return Agent("seller")


@pytest.fixture
def handler_of(agent):
    """Declares a function as a handler and gives what was read from it."""

    def read(function, *event, **options):
        agent.on(*event, **options)(function)
        return agent.handlers[-1]

    return read
