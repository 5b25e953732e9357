"""Spans as a tree, whatever is missing of it."""

from __future__ import annotations

from types import SimpleNamespace as Span

from tracekeeper.reading.spans import tree


def span(name: str, parent: str | None, at: int) -> Span:
    return Span(span_id=name, parent_id=parent, started_at=at)


def shown(*spans: Span) -> list[tuple[int, str]]:
    return [(line.depth, line.span.span_id) for line in tree(spans)]


def test_children_come_below_their_parent_in_the_order_they_began() -> None:
    spans = [span("c", "a", 3), span("d", "b", 4), span("b", "a", 2), span("a", "remote", 1)]
    assert shown(*spans) == [(0, "a"), (1, "b"), (2, "d"), (1, "c")]


def test_a_span_whose_parent_is_lost_is_a_root() -> None:
    assert shown(span("a", None, 1), span("x", "gone", 2)) == [(0, "a"), (0, "x")]


def test_a_span_that_is_its_own_parent_ends() -> None:
    assert shown(span("a", "a", 1)) == [(0, "a")]


def test_depth_has_no_limit() -> None:
    chain = [span("s0", None, 0), *(span(f"s{n}", f"s{n - 1}", n) for n in range(1, 5_000))]
    assert shown(*chain)[-1] == (4_999, "s4999")


def test_parents_in_a_ring_lose_no_span() -> None:
    assert sorted(shown(span("a", "b", 1), span("b", "a", 2))) == [(0, "a"), (0, "b")]
