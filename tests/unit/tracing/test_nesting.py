"""Parents, records and traces; ours and third parties' spans in one tree."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.configuration import context
from tracekeeper.tracing import current_span, span, trace

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracer() -> otel.Tracer:
    return TracerProvider().get_tracer("third party")


def test_spans_nest_both_ways_with_a_third_partys(kept: FakeKeeper, tracer: otel.Tracer) -> None:
    with span("ours") as ours, tracer.start_as_current_span("theirs") as theirs, span("leaf") as leaf:
        assert current_span() is leaf
        assert otel.get_current_span() is leaf
    assert theirs.parent.span_id == int(ours.span_id, 16)  # type: ignore[attr-defined]
    assert kept.start("leaf").parent_id == theirs.get_span_context().span_id.to_bytes(8, "big")
    assert {start.trace_id for start in kept.starts} == {ours.get_span_context().trace_id.to_bytes(16, "big")}
    assert kept.start("leaf").record_id == kept.start("ours").span_id


def test_a_span_below_a_third_partys_is_a_record_in_its_trace(kept: FakeKeeper, tracer: otel.Tracer) -> None:
    with tracer.start_as_current_span("request") as request, span("ours") as ours:
        assert otel.get_current_span() is ours
    start = kept.start()
    assert start.record_id == start.span_id
    assert start.trace_id == request.get_span_context().trace_id.to_bytes(16, "big")
    assert start.parent_id == request.get_span_context().span_id.to_bytes(8, "big")


def test_a_remote_parents_trace_is_continued(kept: FakeKeeper) -> None:
    carrier = {"traceparent": REMOTE, "tracestate": "vendor=1"}
    token = attach(TraceContextTextMapPropagator().extract(carrier))
    try:
        with span("ours"), span("below"):
            sent: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(sent)
    finally:
        detach(token)
    ours = kept.start("ours")
    assert ours.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert (ours.parent_id or b"").hex() == "b7ad6b7169203331"
    assert ours.record_id == ours.span_id
    assert sent["traceparent"].split("-")[1:3] == [ours.trace_id.hex(), kept.start("below").span_id.hex()]
    assert sent["tracestate"] == "vendor=1"


def test_another_trace_begun_inside_gives_another_record(kept: FakeKeeper, tracer: otel.Tracer) -> None:
    with span("outer"), tracer.start_as_current_span("new root", context=Context()), span("inner"):
        pass
    inner, outer = kept.start("inner"), kept.start("outer")
    assert inner.trace_id != outer.trace_id
    assert inner.record_id == inner.span_id


def test_siblings_are_records_of_their_own(kept: FakeKeeper) -> None:
    with span("one"):
        pass
    with span("two"):
        pass
    assert len({start.trace_id for start in kept.starts}) == 2
    assert all(start.record_id == start.span_id for start in kept.starts)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, ValueError])
def test_calls_after_one_that_raised_do_not_become_its_children(kept: FakeKeeper, kind: type[BaseException]) -> None:
    @trace
    def raises() -> None:
        raise kind

    @trace
    async def araises() -> None:
        raise kind

    async def main() -> None:
        with pytest.raises(kind):
            await araises()
        with span("after async"):
            pass

    with pytest.raises(kind):
        raises()
    with span("after"):
        pass
    asyncio.run(main())
    assert {start.parent_id for start in kept.starts} == {None}


def test_tasks_and_to_thread_nest_and_plain_threads_begin_anew(kept: FakeKeeper) -> None:
    @trace
    def leaf(name: str) -> None: ...

    async def main() -> None:
        with span("root"):
            await asyncio.gather(
                asyncio.to_thread(leaf, "thread"), asyncio.create_task(asyncio.to_thread(leaf, "task"))
            )
            plain = threading.Thread(target=leaf, args=("plain",))
            plain.start()
            plain.join()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(contextvars.copy_context().run, leaf, "carried").result()

    asyncio.run(main())
    root = kept.start("root").span_id
    parents = {(start.input or b"").decode(): start.parent_id for start in kept.starts if start.name.endswith("leaf")}
    assert parents == {
        '{"name":"thread"}': root,
        '{"name":"task"}': root,
        '{"name":"plain"}': None,
        '{"name":"carried"}': root,
    }


def test_concurrent_requests_do_not_mix(kept: FakeKeeper) -> None:
    @trace
    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @trace
    async def outer(n: int) -> int:
        with context(session_id=str(n)):
            await asyncio.sleep(0)
            return await inner(n)

    async def main() -> None:
        await asyncio.gather(*(outer(n) for n in range(100)))

    asyncio.run(main())
    inputs = {start.span_id: start.input for start in kept.starts}
    inner_starts = [start for start in kept.starts if start.parent_id is not None]
    assert len(inner_starts) == 100
    assert all(inputs[start.parent_id or b""] == start.input for start in inner_starts)


def test_a_generators_own_span_stays_with_it(kept: FakeKeeper) -> None:
    """A `with tk.span` around a yield is current in the generator's steps, and never in the consumer."""

    @trace
    def stream() -> Iterator[int]:
        with span("inside"):
            yield 1
            with span("deeper"):
                pass
        yield 2

    with span("consumer") as consumer:
        for _ in stream():
            assert current_span() is consumer
            with span("made by it"):
                pass
    deeper, inside = kept.start("deeper"), kept.start("inside")
    assert deeper.parent_id == inside.span_id
    assert inside.parent_id == kept.start("stream").span_id
    made = {start.parent_id for start in kept.starts if start.name == "made by it"}
    assert made == {kept.start("consumer").span_id}


FALLBACK = """
import sys
from opentelemetry.context import contextvars_context as module
class Other(module.ContextVarsRuntimeContext):
    def __init__(self):
        self._elsewhere = module.ContextVar("elsewhere", default=module.Context())
    def attach(self, context): return self._elsewhere.set(context)
    def get_current(self): return self._elsewhere.get()
    def detach(self, token): self._elsewhere.reset(token)
import opentelemetry.context as api
api._RUNTIME_CONTEXT = Other()
sys.path[:0] = {paths!r}
from tracekeeper.tracing import context
assert isinstance(context.VAR, context.PublicVariable)
import pytest
early = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"  # if the plugin is installed too
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", early, "-x", *{tests!r}, "-k", "not fallback"]))
"""


@pytest.mark.slow
def test_fallback_to_the_public_names_of_opentelemetry_nests_the_same(request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath
    tests = [str(root / "tests/unit/tracing/test_nesting.py"), str(root / "tests/guarantees/test_closed_once.py")]
    code = FALLBACK.format(paths=[str(root / "src"), str(root)], tests=tests)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_ended_parent_still_parents(kept: FakeKeeper) -> None:
    held: list[Any] = []
    with span("root"):
        held.append(contextvars.copy_context())
    held[0].run(lambda: span("late").__enter__().end())
    assert kept.start("late").parent_id == kept.start("root").span_id
    assert kept.start("late").record_id == kept.start("root").span_id
