"""Versions: the same wherever the same code runs, another as soon as code or parameters change."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper.judging import metric, select
from tracekeeper.judging.fingerprint import digest, fingerprint

SOURCE = Path(__file__).parents[3] / "src"


def compiled(tmp_path: Path, name: str, text: str) -> Any:
    """The module of a source text, loaded from a file of its own."""
    import importlib.util

    path = tmp_path / f"{name}.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def version(tmp_path: Path, text: str, name: str = "judge") -> str:
    number = len(list(tmp_path.iterdir()))
    return metric(getattr(compiled(tmp_path, f"m{number}", text), name)).version


PLAIN = """
def judge(output, limit=3):
    words = output.split(' ')
    return len(words) < limit and f'{words[0]!r:>{limit}}' != "x"
"""


@pytest.mark.parametrize(
    "same",
    [
        "\n\n# moved, and commented\n" + PLAIN,
        PLAIN.replace("limit=3):", "limit=3):  # a comment\n    '''A docstring,\n    of two lines.'''"),
        PLAIN.replace("    words", "        words").replace("    return", "        return"),
        "import functools\n@functools.lru_cache\n@functools.wraps(len)\ndef other(x): ...\n" + PLAIN,
        PLAIN.replace("split(' ')", "split( ' ' )"),
    ],
)
def test_what_does_not_change_the_code_does_not_change_the_version(tmp_path: Path, same: str) -> None:
    assert version(tmp_path, same) == version(tmp_path, PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace("< limit", "<= limit"),
        PLAIN.replace("limit=3", "limit=4"),
        PLAIN.replace("split(' ')", "split('  ')"),
        PLAIN.replace("!r:>", "!s:>"),
        PLAIN.replace("def judge", "async def judge"),
        PLAIN.replace("    return", "    if words: pass\n    return"),
    ],
)
def test_what_changes_the_code_changes_the_version(tmp_path: Path, other: str) -> None:
    assert version(tmp_path, other) != version(tmp_path, PLAIN)


def test_a_decorator_of_ours_does_not_change_it(tmp_path: Path) -> None:
    decorated = "import tracekeeper.judging as tk\n@tk.metric(timeout=5)" + PLAIN
    assert version(tmp_path, decorated) == version(tmp_path, PLAIN)


def test_options_of_the_run_do_not_change_it() -> None:
    made = metric(digest)
    assert made.replace(timeout=5, retries=2, mode="inline", name="x").version == made.version


def test_selectors_change_it() -> None:
    made = metric(lambda output: output)
    assert made.on(output=select.output("a")).version != made.version
    assert made.on(output=select.output("a")).version != made.on(output=select.output("b")).version


def test_lambdas_in_one_line_are_told_apart() -> None:
    # fmt: off
    first, second, third = (lambda output: len(output), lambda output: len(output) + 1, lambda output: len(output))
    # fmt: on
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == fingerprint(third)


def test_a_lambda_is_its_own_text_and_not_that_of_its_line() -> None:
    one = metric(lambda output: len(output), timeout=5).version
    other = [metric(lambda output: len(output))][0].version
    assert one == other


def closure(limit: Any) -> Any:
    def judge(output: str) -> bool:
        return len(output) < limit

    return judge


@pytest.mark.parametrize("value", [1, 1.5, "a", None, [1, {"a": (2,)}], {"b", "a"}, b"x", Path("x"), len, closure])
def test_a_closures_value_belongs_to_the_version(value: Any) -> None:
    assert fingerprint(closure(value)) == fingerprint(closure(value))
    assert fingerprint(closure(value)) != fingerprint(closure("another"))


def test_equal_numbers_of_other_types_are_other_values() -> None:
    assert len({digest(value) for value in (1, 1.0, True, "1", [1], (1, 1))}) == 6


def test_an_object_without_plain_content_counts_by_its_type_and_never_by_its_address() -> None:
    class Client:
        pass

    assert fingerprint(closure(Client())) == fingerprint(closure(Client()))


def test_cycles_and_huge_values_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert fingerprint(closure(loop))
    assert fingerprint(closure(list(range(1_000_000))))
    assert fingerprint(closure("x" * 1_000_000))

    def recursive(output: str) -> Any:
        return recursive(output[1:]) if output else 0

    assert fingerprint(recursive)


@dataclass(frozen=True)
class Threshold:
    low: float = 0.5

    def __call__(self, output: str) -> bool:
        return len(output) > self.low


class Plain:
    def __init__(self, low: int) -> None:
        self.low = low
        self.client = object()

    def __call__(self, output: str) -> bool:
        return len(output) > self.low

    def method(self, output: str) -> bool:
        return len(output) > self.low


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("make", "one", "two"),
    [
        (Threshold, 0.5, 0.6),
        (Plain, 1, 2),
        (lambda low: Plain(low).method, 1, 2),
        (lambda low: functools.partial(Plain(1), low=low), 1, 2),
        (lambda low: functools.partial(closure, low), 1, 2),
    ],
)
def test_parameters_belong_to_the_version(make: Any, one: Any, two: Any) -> None:
    assert fingerprint(make(one)) == fingerprint(make(one))
    assert fingerprint(make(one)) != fingerprint(make(two))


class TestExplicit:
    def test_it_replaces_the_codes_hash(self) -> None:
        assert metric(closure(1), version="2").version == "2"
        assert metric(closure(1), version=2).version == "2"  # type: ignore[arg-type]
        assert metric(closure(1), version="2").version == metric(closure(9), version="2").version

    def test_parameters_and_selectors_still_count(self) -> None:
        versions = {
            metric(Threshold(0.5), version="2").version,
            metric(Threshold(0.6), version="2").version,
            metric(closure(1), version="2").on(output=select.output("a")).version,
            "2",
        }
        assert len(versions) == 4
        assert all(found.startswith("2") for found in versions)


def test_without_source_the_code_counts() -> None:
    made: dict[str, Any] = {}
    exec("f = lambda output: output in {'a', 'b', 'c'}\ng = lambda output: output in {'a', 'b', 'd'}", made)
    assert fingerprint(made["f"]) == fingerprint(made["f"])
    assert fingerprint(made["f"]) != fingerprint(made["g"])


def test_every_process_finds_the_same(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            def words(output, stop={"a", "b", "c", "the"}): return len(set(output.split()) - stop)
            def made(stop):
                return lambda output: output in stop
            @dataclass
            class Judge:
                names: tuple = ("x", "y")
                def __call__(self, output): return output in self.names
            code = {}
            exec("f = lambda output: output in {'a', 'b', 'c', 'd'}", code)
            """
        )
    )
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import judges; from tracekeeper.judging import metric\n"
        "all = [judges.words, judges.made({'a', 'b', 'c'}), judges.Judge(), judges.code['f']]\n"
        "print([metric(one).version for one in all])\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(SOURCE)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_data_has_a_digest(value: Any) -> None:
    assert digest(value) == digest(value)
    assert len(digest(value)) == 12


def test_a_source_is_read_although_another_thread_parses_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """python/cpython#106905: the parser fails in one of two threads that use it at once, and works the next time."""
    import ast

    from tracekeeper.judging import source

    def length(output: str) -> int:
        return len(output)

    expected = source.source_text(length)
    assert expected is not None
    source._functions.cache_clear()
    real, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 2

    def sometimes(text: str) -> ast.Module:
        if failures:
            raise failures.pop()
        return real(text)

    monkeypatch.setattr(source.ast, "parse", sometimes)
    assert source.source_text(length) == expected
    assert failures == []
