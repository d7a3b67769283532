"""Real rows for the example teams, where they lie beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Finds a data file by its name, or skips the test."""

    def find(name: str) -> Path:
        if not (_FOLDER / name).is_file():
            pytest.skip(f"there is no {_FOLDER.parent.name}/{_FOLDER.name}/{name} beside the checkout")
        return _FOLDER / name

    return find
