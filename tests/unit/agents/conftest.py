"""Real rows for the example teams, when there are any: `EXAMPLE_DATA` names the folder that holds them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Finds a data file by its name, or skips the test."""

    def find(name: str) -> Path:
        folder = os.environ.get("EXAMPLE_DATA")
        if not folder:
            pytest.skip("EXAMPLE_DATA is not set")
        return Path(folder) / name

    return find
