"""For tests of programs that use Tracekeeper: a keeper of their own that leaves nothing behind.

The fixture ``tracekeeper_keeper`` (module ``tracekeeper.testing.pytest_plugin``) does the same for pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekeeper.testing.temporary import temporary_keeper

__all__ = ["temporary_keeper"]


def __getattr__(name: str) -> Any:
    # Lazy, because pytest imports this package in every run (see pytest_plugin).
    if name == "temporary_keeper":
        from tracekeeper.testing.temporary import temporary_keeper

        return temporary_keeper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
