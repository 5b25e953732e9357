from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.rows import Writer

from tracekeeper.store.store import Store
from tracekeeper.types import faults


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'store.db'}", busy_timeout=0.2)
    yield opened
    opened.close()
    faults.disarm()


@pytest.fixture
def journal(store: Store) -> Writer:
    return Writer(store)
