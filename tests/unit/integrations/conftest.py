"""A server that speaks the providers' formats, and a keeper that keeps frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import wire
from tests.support.wire import WireServer

from tracekeeper.integrations import registry


@pytest.fixture(scope="package")
def server() -> Iterator[WireServer]:
    with wire.serving() as made:
        yield made


@pytest.fixture
def _put_back() -> Iterator[None]:
    yield
    registry.forget()
