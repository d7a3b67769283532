"""What tests of agents need: `Harness` for one agent without a server, and the fixtures of `mesh.testing.plugin`.

The names load on first use: pytest imports the plugin, and so this package, in every session.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.testing.harness import Harness, Result

__all__ = ["Harness", "Result"]


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - PEP 562: nothing is loaded before it is asked for

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("mesh.testing.harness"), name)
