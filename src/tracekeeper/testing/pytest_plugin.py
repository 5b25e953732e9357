"""pytest's fixture ``tracekeeper_keeper``: a keeper of its own for each test that asks for it.

Installed with the package (entry point ``pytest11``), so it is imported in every test run on the machine: it imports
nothing of Tracekeeper until a test uses the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracekeeper.tracing.runtime import Keeper


@pytest.fixture
def tracekeeper_keeper() -> Iterator[Keeper]:
    """Everything traced in this test goes to a temporary directory, which is removed after it."""
    from tracekeeper.testing.temporary import temporary_keeper

    with temporary_keeper() as keeper:
        yield keeper
