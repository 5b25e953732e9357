"""What can run in a process of its own is said when the metric is made, or when it is given to an app."""

from __future__ import annotations

import pickle
import threading
from functools import partial
from typing import Any

import pytest
from tests.support import hazards, programs

import tracekeeper as tk
from tracekeeper.judging import RecordView, metric
from tracekeeper.judging.resolving import restore
from tracekeeper.judging.view import SpanView
from tracekeeper.types import MetricError


def test_the_options_are_kept_described_and_restored() -> None:
    made = metric(hazards.length, isolation="process", memory_limit=1 << 30)
    assert (made.isolation, made.memory_limit) == ("process", 1 << 30)
    described = made.description()
    assert (described["isolation"], described["memory_limit"]) == ("process", 1 << 30)
    again = restore(described)
    assert (again.isolation, again.memory_limit, again.version) == ("process", 1 << 30, made.version)
    copied = pickle.loads(pickle.dumps(made))
    assert (copied.isolation, copied.memory_limit, copied.name) == ("process", 1 << 30, "length")
    assert metric(hazards.length).isolation == "thread"
    assert metric(hazards.length).version == made.version  # where it runs does not change what it says
    assert "isolation='process'" in repr(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"isolation": "proces"}, "metric 'length': isolation='proces': expected 'thread' or 'process'; did you mean"),
        ({"isolation": None}, "isolation=None: expected 'thread' or 'process'"),
        ({"isolation": "process", "memory_limit": 512}, "memory_limit=512: expected a number of bytes, at least"),
        ({"isolation": "process", "memory_limit": "1GB"}, "memory_limit='1GB': expected a number of bytes"),
        ({"memory_limit": 1 << 30}, "the memory of a thread cannot be limited; add isolation='process'"),
        (
            {"isolation": "process", "mode": "inline"},
            "isolation='process' with mode='inline': the call's own objects cannot be given to another process; "
            "use mode='background'",
        ),
        ({"isolation": "process", "needs_live": True}, "isolation='process' with needs_live=True"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(MetricError) as refused:
        metric(hazards.length, **options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_are_checked_in_copies_too() -> None:
    with pytest.raises(MetricError, match="mode='inline'"):
        metric(hazards.length, isolation="process").replace(mode="inline")
    with pytest.raises(MetricError, match="a lambda"):
        metric(lambda output: 1).replace(isolation="process")


def test_a_function_that_no_other_process_can_import_is_refused_at_once() -> None:
    def inner(output: str) -> int:
        return 1

    class Inner:
        def __call__(self, output: str) -> int:
            return 1

        def judge(self, output: str) -> int:
            return 1

    for function, named in (
        (lambda output: 1, "a lambda"),
        (partial(lambda output, x: 1, x=1), "a lambda"),
        (inner, "'inner', which is defined inside a function"),
        (Inner(), "'Inner', which is defined inside a function"),
        (Inner().judge, "'Inner', which is defined inside a function"),
    ):
        with pytest.raises(MetricError) as refused:
            metric(function, isolation="process")
        assert f"isolation='process': another process cannot import {named}; put it at the top level" in str(
            refused.value
        )


def test_what_the_programs_own_file_defines_is_refused(tmp_path: Any) -> None:
    done = programs.run(
        """
        import tracekeeper as tk
        try:
            @tk.metric(isolation="process")
            def judge(output): return 1
        except tk.MetricError as error:
            print(error)
        """,
        tmp_path,
    )
    assert done.out == (
        "metric 'judge': isolation='process': another process cannot import 'judge' from the program's own file or "
        "notebook (__main__); put it at the top level of a module that can be imported, or use isolation='thread'\n"
    )


def test_what_cannot_be_pickled_is_refused_when_it_is_used() -> None:
    made = metric(hazards.Needs(threading.Lock()), isolation="process")
    for use in (
        lambda: tk.App(len, name="a", version="1", metrics=[made]),
        lambda: made.check(["output"]),
    ):
        with pytest.raises(MetricError) as refused:
            use()
        assert "metric 'needs': isolation='process': it cannot be pickled (TypeError: cannot pickle" in str(
            refused.value
        )
    metric(hazards.Needs(1.0), isolation="process").check(["output"])


def test_a_view_is_pickled_with_its_spans_fetched() -> None:
    fetched = []

    def fetch() -> list[SpanView]:
        fetched.append(1)
        return [SpanView(name="one", attributes={"a": 1})]

    view = RecordView(input={"q": 1}, output="mild", spans=fetch, app="demo", cut=["input"], tags=["t"])
    again = pickle.loads(pickle.dumps(view))
    assert (again.input, again.output, again.app, again.cut, again.tags) == (
        {"q": 1},
        "mild",
        "demo",
        frozenset({"input"}),
        ("t",),
    )
    assert again.spans == (SpanView(name="one", attributes={"a": 1}),)
    other = RecordView(spans=lambda: pytest.fail("nobody asked")).without_spans()
    assert pickle.loads(pickle.dumps(other)).spans == ()
