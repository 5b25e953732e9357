"""The static page of results, opened from a file in a real browser: both themes, 5,000 calls, hostile outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import browser
from tests.support.calls import call

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus, ScoreStatus

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")
pytest.importorskip("websockets")

EVIL = "</script><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.browsing(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def results(shift: int, n: int = 5_000) -> Results:
    made = []
    for place in range(n):
        status = ItemStatus.ERROR if place % 100 == 99 else ItemStatus.OK
        depth = place % 10 / 10 if place % 7 else ScoreStatus.FAILED
        scores = {"exact": (place + shift) % 3 != 0, "depth": depth}
        output = EVIL if place == 7 else f"answer {place} of version {shift}"
        made.append(
            call(
                f"i{place:04}",
                status,
                output=output if status is ItemStatus.OK else None,
                error=None if status is ItemStatus.OK else "ValueError: no such page",
                seconds=place / 1000,
                scores=scores if status is ItemStatus.OK else {},
            )
        )
    facts = {"exact": MetricFacts(name="exact"), "depth": MetricFacts(name="depth", low=0, high=1)}
    return Results(made, RunFacts(name=f"version {shift}"), metrics=facts)


def count(page: browser.Page) -> str:
    return str(page.run("document.getElementById('count').textContent"))


def first(page: browser.Page) -> str:
    return str(page.run("document.querySelector('#items tbody td').textContent"))


def change(page: browser.Page, name: str, value: str, event: str) -> None:
    field = f"document.getElementById('{name}')"
    page.run(f"{field}.value = '{value}'; {field}.dispatchEvent(new Event('{event}'))")


def choose(page: browser.Page, name: str, value: str) -> None:
    page.run(
        f"{{ const s = document.getElementById('{name}'); s.value = '{value}'; s.dispatchEvent(new Event('change')) }}"
    )


def type_in(page: browser.Page, name: str, text: str) -> None:
    page.run(
        f"{{ const s = document.getElementById('{name}'); s.value = '{text}'; s.dispatchEvent(new Event('input')) }}"
    )


def test_the_page_of_5000_calls_searches_sorts_and_filters(page: browser.Page, tmp_path: Path) -> None:
    results(0).to_html(tmp_path / "results.html")
    page.open(tmp_path / "results.html")
    assert count(page) == "1 to 100 of 5,000 matching calls"
    page.run("document.getElementById('next').click()")
    assert first(page) == "i0100"
    type_in(page, "search", "ANSWER 4321 of")
    assert (count(page), first(page)) == ("1 of 5,000 calls", "i4321")
    type_in(page, "search", "")
    choose(page, "status", "error")
    assert count(page) == "50 of 5,000 calls"
    choose(page, "status", "")
    choose(page, "metric", "0")
    choose(page, "condition", "false")
    assert count(page) == "1 to 100 of 1,650 matching of 5,000 calls"
    choose(page, "metric", "1")
    choose(page, "condition", "missing")
    assert count(page) == "1 to 100 of 758 matching of 5,000 calls"
    choose(page, "condition", "above")
    type_in(page, "limit", "0.85")
    assert page.run("document.getElementById('limit').hidden") is False
    shown = int(count(page).split(" of ")[1].split(" ")[0].replace(",", ""))
    assert shown == sum(1 for n in range(5_000) if n % 10 == 9 and n % 7 and n % 100 != 99)
    choose(page, "metric", "")
    for _ in range(2):  # by time, the longest first
        page.run("[...document.querySelectorAll('#items thead button')].at(-1).click()")
    assert first(page) == "i4999"
    assert page.run("document.querySelector('#items [aria-sort]').getAttribute('aria-sort')") == "descending"


def test_a_page_that_compares_shows_regressions_first_with_what_changed(page: browser.Page, tmp_path: Path) -> None:
    results(1, n=300).to_html(tmp_path / "results.html", baseline=results(0, n=300))
    page.open(tmp_path / "results.html")
    assert page.run("document.querySelector('#items tbody tr .state.bad').textContent") == "regressed"
    choose(page, "verdict", "improved")
    assert page.run(
        "[...document.querySelectorAll('#items tbody tr.row')].every(r => r.textContent.includes('improved'))"
    )
    page.run("document.querySelector('#items tbody tr.row button').click()")
    assert page.run("document.querySelector('tr.details del').textContent") == "0"
    assert page.run("document.querySelector('tr.details ins').textContent") == "1"
    page.run("document.querySelector('#items tbody tr.row button').click()")
    assert page.run("document.querySelector('tr.details')") is None


def test_hostile_outputs_are_text_and_nothing_is_loaded(page: browser.Page, tmp_path: Path) -> None:
    results(0, n=20).to_html(tmp_path / "results.html", baseline=results(1, n=20))
    page.messages.clear()
    page.requests.clear()
    page.open(tmp_path / "results.html")
    page.run("document.querySelectorAll('#items tbody tr.row').forEach(row => row.click())")
    assert EVIL in str(page.run("document.querySelector('#items').textContent"))
    assert page.run("document.title").startswith("version 0")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.messages == []
    assert page.requests == [(tmp_path / "results.html").as_uri()]


def test_the_policy_keeps_what_is_smuggled_in_from_running(page: browser.Page, tmp_path: Path) -> None:
    """Even if a bug let markup through: a script that is not the page's own is refused."""
    text = results(0, n=2).to_html() or ""
    smuggled = text.replace("</main>", "<script>document.title = 'broken'</script></main>")
    (tmp_path / "results.html").write_text(smuggled, encoding="utf-8")
    page.open(tmp_path / "results.html")
    assert page.run("document.title") != "broken"


@pytest.mark.parametrize(
    ("theme", "back", "other"), [("light", "rgb(251, 251, 250)", "Dark"), ("dark", "rgb(20, 23, 26)", "Light")]
)
def test_the_theme_is_the_readers_and_can_be_changed(
    page: browser.Page, tmp_path: Path, theme: str, back: str, other: str
) -> None:
    results(0, n=5).to_html(tmp_path / "results.html")
    page.prefer(theme)
    page.open(tmp_path / "results.html")
    color = "getComputedStyle(document.body).backgroundColor"
    assert page.run(color) == back
    assert page.run("document.getElementById('theme').textContent") == other
    page.run("document.getElementById('theme').click()")
    assert page.run(color) != back
