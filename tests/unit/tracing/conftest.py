"""Tracing without a journal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.fake_keeper import FakeKeeper, faked


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKeeper]:
    """What tracing wrote."""
    with faked(monkeypatch) as made:
        yield made
