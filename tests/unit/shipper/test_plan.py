"""The planner: every order in which frames can come, and nothing skipped or doubled by a failed batch."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper.journal.cursor import Position
from tracekeeper.journal.frames import Definition, Frame, ScoreFrame, SpanCheckpoint, SpanEnd, SpanStart, encode
from tracekeeper.shipper.plan import HOLD, LOST_START, Held, Planner, empty
from tracekeeper.store.rows import Batch

TRACE = b"t" * 16
NOW = 1_000_000_000_000
LATER = NOW + HOLD

_offsets = itertools.count(32, 8)


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def start(number: int, *, at: int = NOW) -> SpanStart:
    identity = span_id(number)
    return SpanStart(TRACE, identity, None, identity, f"call {number}", "task", at, input=b'"in"')


def end(number: int, *, output: bytes | None = b'"out"') -> SpanEnd:
    return SpanEnd(TRACE, span_id(number), span_id(number), NOW + 1000, "ok", output)


def checkpoint(number: int, text: bytes = b'"so far"') -> SpanCheckpoint:
    return SpanCheckpoint(TRACE, span_id(number), NOW, text)


def frames(*found: Frame) -> list[tuple[Position, bytes]]:
    return [(Position(0, 1, next(_offsets)), encode(frame)) for frame in found]


def numbers(batch: Batch) -> list[int]:
    return sorted(int.from_bytes(write.start.span_id, "big") for write in batch.inserts)


def test_a_start_and_its_end_become_one_insert() -> None:
    batch = Planner().take(frames(start(1), end(1)), NOW)
    assert [(write.start.name, write.end is not None, write.status) for write in batch.inserts] == [
        ("call 1", True, None)
    ]
    assert not batch.ends


def test_a_young_start_is_held_and_its_position_kept() -> None:
    planner = Planner()
    read = frames(start(1))
    batch = planner.take(read, NOW)
    assert empty(batch)
    assert planner.held == (read[0][0],)
    planner.commit()
    assert planner.due(NOW) == HOLD / 1e9


def test_a_held_start_meets_its_end_in_a_later_batch() -> None:
    planner = Planner()
    planner.take(frames(start(1)), NOW)
    planner.commit()
    batch = planner.take(frames(end(1)), NOW)
    assert numbers(batch) == [1]
    assert batch.inserts[0].end is not None
    assert planner.held == ()


def test_an_old_start_becomes_a_running_row_and_its_end_an_update() -> None:
    planner = Planner()
    planner.take(frames(start(1)), NOW)
    planner.commit()
    running = planner.take([], LATER)
    assert [(write.end, write.status) for write in running.inserts] == [(None, None)]
    planner.commit()
    batch = planner.take(frames(end(1)), LATER)
    assert not batch.inserts
    assert len(batch.ends) == 1
    planner.commit()
    assert planner.running == frozenset()


@pytest.mark.parametrize("at", [NOW + 10**15, NOW - 10**15, 0])
def test_a_start_dated_wrongly_is_not_held_for_ever(at: int) -> None:
    planner = Planner()
    planner.take(frames(start(1, at=at)), NOW)
    planner.commit()
    assert not empty(planner.take([], LATER)) or planner.running


def test_a_clock_that_was_set_back_releases_what_is_held() -> None:
    planner = Planner()
    planner.take(frames(start(1)), NOW)
    planner.commit()
    assert numbers(planner.take([], NOW - 10**12)) == [1]


def test_who_flushes_sees_what_is_open() -> None:
    assert numbers(Planner().take(frames(start(1)), NOW, eager=True)) == [1]


def test_an_end_without_a_start_is_kept_and_marked() -> None:
    batch = Planner(project="bot").take(frames(end(7)), NOW)
    (write,) = batch.inserts
    assert write.start.span_id == span_id(7)
    assert write.start.project == "bot"
    assert write.end is not None
    assert write.end.attributes is not None
    assert orjson.loads(write.end.attributes) == {LOST_START: True}
    assert write.end.output == b'"out"'


def test_an_end_that_precedes_its_start_in_a_batch_finds_it() -> None:
    batch = Planner().take(frames(end(1), start(1)), NOW)
    assert batch.inserts[0].start.name == "call 1"
    assert len(batch.inserts) == 1


def test_a_checkpoint_makes_a_held_span_running_with_its_text() -> None:
    planner = Planner()
    batch = planner.take(frames(start(1), checkpoint(1)), NOW)
    assert batch.inserts[0].checkpoint is not None
    assert batch.inserts[0].checkpoint.output == b'"so far"'
    assert planner.held == ()
    planner.commit()
    later = planner.take(frames(checkpoint(1, b'"more"')), NOW)
    assert [each.output for each in later.checkpoints] == [b'"more"']


def test_a_checkpoint_counts_only_when_the_end_says_nothing() -> None:
    planner = Planner(running=[(TRACE, span_id(1)), (TRACE, span_id(2))])
    batch = planner.take(frames(checkpoint(1), end(1), checkpoint(2), end(2, output=None)), NOW)
    assert [each.span_id for each in batch.checkpoints] == [span_id(2)]
    assert len(batch.ends) == 2


def test_a_dead_process_leaves_interrupted_spans_with_their_text() -> None:
    planner = Planner(running=[(TRACE, span_id(9))])
    batch = planner.take(frames(start(1), start(2), checkpoint(2), start(3), end(3)), NOW, final=True)
    assert batch.interrupt
    found = {int.from_bytes(write.start.span_id, "big"): write for write in batch.inserts}
    assert found[1].status == found[2].status == "interrupted"
    assert found[2].checkpoint is not None
    assert found[3].end is not None
    planner.commit()
    assert planner.running == frozenset()
    assert planner.held == ()


def test_damage_and_unknown_frames_are_counted() -> None:
    position = Position(0, 1, 32)
    batch = Planner().take([(position, b"\x00rubbish"), (position, b"\x91\xa1Z"), *frames(start(1), end(1))], NOW)
    assert batch.damaged == 2
    assert numbers(batch) == [1]


def test_scores_and_definitions_keep_their_order() -> None:
    scores = [ScoreFrame("record", f"m{number}", "scored", TRACE, span_id(1)) for number in range(5)]
    batch = Planner().take(frames(Definition("app", "a", "1"), *scores), NOW)
    assert [each.name for each in batch.scores] == ["m0", "m1", "m2", "m3", "m4"]
    assert len(batch.definitions) == 1


def test_taking_changes_nothing_until_commit() -> None:
    planner = Planner()
    read = frames(start(1), start(2), end(2))
    first = planner.take(read, LATER)
    again = planner.take(read, LATER)
    assert numbers(first) == numbers(again) == [1, 2]
    assert planner.running == frozenset()


def test_what_is_not_stored_is_counted_once() -> None:
    planner = Planner(running=[(TRACE, span_id(4))])
    planner.take(frames(start(1)), NOW)
    planner.commit()
    assert planner.unstored(frames(end(1), start(2), start(3), end(3), end(4), end(5))) == 4
    assert planner.unstored([]) == 1


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Frame], list[int], list[bool]]:
    """Frames of a few spans in an order that can happen, where batches are cut, and which commits fail."""
    count = draw(st.integers(1, 6))
    lanes: list[list[Frame]] = []
    for number in range(count):
        lane: list[Frame] = [start(number, at=NOW)]
        lane += [checkpoint(number)] * draw(st.integers(0, 2))
        if draw(st.booleans()):
            lane.append(end(number))
        lanes.append(lane)
    order = draw(st.permutations([number for number, lane in enumerate(lanes) for _ in lane]))
    found = [lanes[number].pop(0) for number in order]
    cuts = sorted(draw(st.lists(st.integers(0, len(found)), max_size=5)))
    return found, cuts, draw(st.lists(st.booleans(), min_size=8, max_size=8))


@settings(max_examples=200, deadline=None)
@given(histories(), st.integers(0, 3))
def test_every_span_is_inserted_once_whatever_fails(
    history: tuple[list[Frame], list[int], list[bool]], hurry: int
) -> None:
    found, cuts, failures = history
    read = frames(*found)
    by_position = dict(read)
    inserted: dict[bytes, int] = {}
    ended: set[bytes] = set()
    running: set[tuple[bytes, bytes]] = set()
    planner = Planner()
    at = 0
    now = NOW
    held: tuple[Position, ...] = ()
    for step, stop in enumerate([*cuts, len(read)]):
        now += hurry * HOLD // 2
        final = stop == len(read) and step == len(cuts)
        batch = planner.take(read[at:stop], now, final=final)
        if failures[step]:
            # The transaction failed, or its process died and another rebuilds from what is stored.
            planner = Planner(
                running=running,
                held=[Held(position, _start(by_position[position]), now) for position in held],
            )
            batch = planner.take(read[at:stop], now, final=final)
        for write in batch.inserts:
            inserted[write.start.span_id] = inserted.get(write.start.span_id, 0) + 1
            if write.end is not None or write.status is not None:
                ended.add(write.start.span_id)
            else:
                running.add((TRACE, write.start.span_id))
        for each in batch.ends:
            assert (TRACE, each.span_id) in running
            running.discard((TRACE, each.span_id))
            ended.add(each.span_id)
        if batch.interrupt:
            ended.update(identity for _, identity in running)
            running.clear()
        held = planner.held
        planner.commit()
        at = stop
    expected = {frame.span_id for frame in found if isinstance(frame, SpanStart)}
    assert inserted == dict.fromkeys(expected, 1)
    assert ended == expected


def _start(payload: bytes) -> SpanStart:
    from tracekeeper.journal.frames import decode

    frame = decode(payload)
    assert isinstance(frame, SpanStart)
    return frame
