"""Progress: redrawn on a terminal, seldom elsewhere, and never in the way."""

from __future__ import annotations

import io

from tracekeeper.reading.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_elsewhere_a_plain_line_now_and_then_and_one_at_the_end() -> None:
    file, clock = io.StringIO(), Clock()
    with Progress("scores", total=3, file=file, clock=clock) as progress:
        progress.update(1)
        clock.now = 2.5
        progress.update(2, note="1 failed")
        clock.now = 3
        progress.update(3)
    assert file.getvalue() == "scores: 2 of 3, 1 failed\nscores: 3 of 3\n"


def test_on_a_terminal_one_line_is_redrawn() -> None:
    file, clock = Terminal(), Clock()
    with Progress("rows", file=file, clock=clock) as progress:
        for done in (1_000, 2_000):
            clock.now += 1
            progress.update(done, note="x" if done == 1_000 else "")
    assert file.getvalue() == "\rrows: 1,000, x\rrows: 2,000   \n"


def test_without_an_update_nothing_is_shown() -> None:
    file = io.StringIO()
    with Progress("scores", file=file):
        pass
    assert file.getvalue() == ""


def test_a_terminal_that_went_away_stops_nothing() -> None:
    with Progress("scores", total=1, file=Gone()) as progress:
        progress.update(1)
