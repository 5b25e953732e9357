"""Ids are our own, whatever the program does to its random numbers."""

from __future__ import annotations

import os
import random
import threading

import pytest

from tracekeeper.tracing import ids


def test_seeding_the_global_generator_repeats_no_id() -> None:
    seen = set()
    for _ in range(100):
        random.seed(42)
        seen.add(ids.span_id())
        seen.add(ids.trace_id())
    assert len(seen) == 200


def test_ids_do_not_advance_the_programs_generator() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    ids.trace_id()
    ids.uniform()
    assert random.random() == expected


def test_ids_have_the_lengths_of_opentelemetry() -> None:
    assert (len(ids.trace_id()), len(ids.span_id())) == (16, 8)


def test_threads_draw_different_ids() -> None:
    drawn: list[bytes] = []
    threads = [threading.Thread(target=lambda: drawn.extend(ids.span_id() for _ in range(1000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 8000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_draws_other_ids_than_its_parent() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(ids.span_id() for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 800)
    os.close(reading)
    os.close(writing)
    mine = {ids.span_id() for _ in range(100)}
    assert not mine & {theirs[at : at + 8] for at in range(0, 800, 8)}
