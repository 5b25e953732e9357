"""OpenTelemetry's global provider, as a new process has it: for tests that set or join one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import opentelemetry.trace as otel
from opentelemetry.util._once import Once

from tracekeeper.tracing import bridge


@contextmanager
def fresh_opentelemetry() -> Iterator[None]:
    """No provider is set inside, nor afterwards, and the bridge has left."""
    module: Any = otel
    before = module._TRACER_PROVIDER, module._TRACER_PROVIDER_SET_ONCE
    module._TRACER_PROVIDER, module._TRACER_PROVIDER_SET_ONCE = None, Once()
    try:
        yield
    finally:
        bridge.leave()
        module._TRACER_PROVIDER, module._TRACER_PROVIDER_SET_ONCE = before
