"""The public face: lazy, complete, and free of names that an import of a room would shadow."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import tracekeeper as tk

HEAVY = (
    "asyncio",
    "ssl",
    "sqlalchemy",
    "alembic",
    "pandas",
    "numpy",
    "pydantic",
    "rich",
    "opentelemetry.sdk",
    "vaderSentiment",
)


def test_every_public_name_resolves() -> None:
    for name in tk.__all__:
        assert getattr(tk, name) is not None


def test_no_public_function_shares_a_name_with_a_room() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(tk.__path__)}
    for name in set(tk.__all__) & rooms:
        assert getattr(tk, name).__name__ == f"tracekeeper.{name}", (
            f"importing tracekeeper.{name} would shadow tk.{name}"
        )


def test_a_mistyped_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match=r"did you mean tk\.recording\?"):
        tk.recordin  # noqa: B018


@pytest.mark.parametrize(
    "use", ["import tracekeeper", "import tracekeeper as tk; tk.trace(lambda: 1)", "import tracekeeper as tk; tk.app"]
)
def test_importing_and_decorating_load_nothing_heavy(use: str) -> None:
    code = f"import sys; {use}; print([m for m in {HEAVY!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"
