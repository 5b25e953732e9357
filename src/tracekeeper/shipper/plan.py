"""What a batch of frames means for the store. Pure: no database, no files, no clock.

A planner remembers, for one journal, what the frames so far leave open:

- *held*: starts that are not in the store yet, because their span may still end within moments and then costs one
  insert instead of an insert and an update. The cursor names their positions, so the journal keeps them.
- *running*: spans whose ``running`` row is in the store.

Invariants
----------
- ``take`` changes nothing; ``commit`` after the transaction does. A batch that failed is taken again from the same
  frames (and maybe more), and comes out the same or larger: nothing is skipped, nothing is doubled.
- Held and running are disjoint, and both can be had again from what is stored: held from the cursor's positions,
  running from the ``running`` rows of the journal.
- Within one batch the order of frames does not matter: an end that precedes its start still finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from tracekeeper.journal.cursor import Position
from tracekeeper.journal.frames import Definition, ItemFrame, ScoreFrame, SpanCheckpoint, SpanEnd, SpanStart, decode
from tracekeeper.store.rows import Batch, SpanWrite
from tracekeeper.types import SpanStatus

HOLD = 250_000_000
"""Nanoseconds for which the start of a span waits for its end before a ``running`` row is written."""

LOST_START = "tracekeeper.lost_start"
"""Attribute of a span whose start the journal does not have (it was full, or the frame is damaged)."""

Key = tuple[bytes, bytes]
"""Trace id and span id."""

_started = attrgetter("start.started")


class Held(msgspec.Struct, frozen=True, gc=False):
    """A start that waits for its end."""

    position: Position
    start: SpanStart
    seen: int
    """When it was first read; guards against clocks that were set back and starts dated in the future."""


class _Next(NamedTuple):
    """The planner's state after the batch that was taken last."""

    held: dict[Key, Held]
    opened: list[Key]
    closed: list[Key]


class Planner:
    """Turns the frames of one journal into batches; remembers what is open in between.

    Parameters
    ----------
    running:
        Spans whose ``running`` row of this journal is in the store.
    held:
        The starts that the cursor holds.
    hold:
        Nanoseconds for which a start waits.
    project:
        Of spans whose start is lost.
    """

    def __init__(
        self,
        *,
        running: Iterable[Key] = (),
        held: Iterable[Held] = (),
        hold: int = HOLD,
        project: str = "default",
    ) -> None:
        self._running = set(running)
        self._held = {(each.start.trace_id, each.start.span_id): each for each in held}
        self._hold = hold
        self._project = project
        self._next: _Next | None = None

    @property
    def held(self) -> tuple[Position, ...]:
        """Positions of the starts that are still needed, as of the last batch taken (for that batch's cursor)."""
        held = self._held if self._next is None else self._next.held
        return tuple(sorted(each.position for each in held.values()))

    @property
    def running(self) -> frozenset[Key]:
        """Spans whose ``running`` row is stored, as of the last commit."""
        return frozenset(self._running)

    def due(self, now: int) -> float | None:
        """Seconds until a held start must become a ``running`` row; ``None`` when none is held."""
        if not self._held:
            return None
        first = min(min(each.seen, each.start.started) for each in self._held.values())
        return max(0.0, min(self._hold, first + self._hold - now) / 1e9)

    def take(
        self, frames: Iterable[tuple[Position, bytes]], now: int, *, eager: bool = False, final: bool = False
    ) -> Batch:
        """The batch that stores these frames.

        Parameters
        ----------
        frames:
            Positions and payloads, in journal order.
        now:
            Nanoseconds since the epoch.
        eager:
            Hold nothing back: who flushes or reads wants to see what is open.
        final:
            The journal's process is dead and nothing follows: what is open is ``interrupted``.
        """
        batch, following = self._plan(frames, now, eager=eager, final=final)
        self._next = following
        return batch

    def commit(self) -> None:
        """The batch taken last is in the store."""
        following = self._next
        if following is None:
            return
        self._held = following.held
        self._running.difference_update(following.closed)
        self._running.update(following.opened)
        self._next = None

    def unstored(self, frames: Iterable[tuple[Position, bytes]]) -> int:
        """How many spans these frames and the held ones would add to the store. Changes nothing."""
        batch, _ = self._plan(frames, 0, eager=True, final=False)
        return len(batch.inserts)

    def _plan(
        self, frames: Iterable[tuple[Position, bytes]], now: int, *, eager: bool, final: bool
    ) -> tuple[Batch, _Next]:
        batch = Batch(interrupt=final)
        starts = dict(self._held)
        ends: dict[Key, SpanEnd] = {}
        checkpoints: dict[Key, SpanCheckpoint] = {}
        for position, payload in frames:
            try:
                frame = decode(payload)
            except msgspec.MsgspecError:  # a newer version's kind of frame, or damage its checksum did not show
                batch.damaged += 1
                continue
            # Exact types, most frequent first: this loop runs for every frame of the program.
            kind = type(frame)
            if kind is SpanStart:
                key = (frame.trace_id, frame.span_id)  # type: ignore[union-attr]
                if key not in starts and key not in self._running:
                    starts[key] = Held(position, frame, now)  # type: ignore[arg-type]
            elif kind is SpanEnd:
                ends.setdefault((frame.trace_id, frame.span_id), frame)  # type: ignore[union-attr, arg-type]
            elif kind is ScoreFrame:
                batch.scores.append(frame)  # type: ignore[arg-type]
            elif kind is SpanCheckpoint:
                checkpoints[frame.trace_id, frame.span_id] = frame  # type: ignore[union-attr, assignment]
            elif kind is Definition:
                batch.definitions.append(frame)  # type: ignore[arg-type]
            elif kind is ItemFrame:
                batch.items.append(frame)  # type: ignore[arg-type]

        closed: list[Key] = []
        for key, end in ends.items():
            # An end without output (its encoding failed, say) leaves the stream's last checkpoint in force.
            partial = checkpoints.pop(key, None)
            if end.output is not None:
                partial = None
            if (held := starts.pop(key, None)) is not None:
                batch.inserts.append(SpanWrite(held.start, end, checkpoint=partial))
            elif key in self._running:
                closed.append(key)
                batch.ends.append(end)
                if partial is not None:
                    batch.checkpoints.append(partial)
            else:
                batch.inserts.append(SpanWrite(start_of(end, self._project), marked(end), checkpoint=partial))

        opened: list[Key] = []
        for key, held in list(starts.items()):
            # A span that has a checkpoint is a long one, and its text so far must not depend on a held position.
            partial = checkpoints.pop(key, None)
            if final:
                batch.inserts.append(SpanWrite(held.start, status=SpanStatus.INTERRUPTED, checkpoint=partial))
            elif eager or partial is not None or not 0 <= now - min(held.seen, held.start.started) < self._hold:
                opened.append(key)
                batch.inserts.append(SpanWrite(held.start, checkpoint=partial))
            else:
                continue
            del starts[key]
        batch.checkpoints.extend(frame for key, frame in checkpoints.items() if key in self._running)
        # Row ids grow with the time of the start as far as one batch can tell: "the latest" then reads few pages.
        batch.inserts.sort(key=_started)
        if final:
            closed.extend(self._running)
        return batch, _Next(starts, opened, closed)


def empty(batch: Batch) -> bool:
    """Whether a batch says nothing new (its cursor and counters apart)."""
    return not (
        batch.inserts
        or batch.ends
        or batch.scores
        or batch.checkpoints
        or batch.definitions
        or batch.items
        or batch.damaged
        or batch.interrupt
    )


def start_of(end: SpanEnd, project: str) -> SpanStart:
    """The start that an end implies, as far as it says: the span is kept rather than lost.

    Its beginning is taken as the first chunk's time if there is one, else the end's; a duration of 0 and the attribute
    ``tracekeeper.lost_start`` tell that it is not known.
    """
    return SpanStart(
        trace_id=end.trace_id,
        span_id=end.span_id,
        parent_id=None if end.record_id in (b"", end.span_id) else end.record_id,
        record_id=end.record_id,
        name=end.name or "(unknown)",
        kind=end.kind or "task",
        started=min(end.first_chunk or end.ended, end.ended),
        app=end.app,
        app_version=end.app_version,
        project=project,
        session_id=end.session_id,
        user_id=end.user_id,
        tags=end.tags or (),
        input=end.input,
        input_size=end.input_size,
    )


def marked(end: SpanEnd) -> SpanEnd:
    """The end with the attribute that tells that its start is lost."""
    attributes: dict[str, Any] = {}
    if end.attributes is not None:
        try:
            found = orjson.loads(end.attributes)
        except orjson.JSONDecodeError:  # only our own encoder writes here; the mark matters more than broken text
            found = None
        if isinstance(found, dict):
            attributes = found
    attributes[LOST_START] = True
    marked_end: SpanEnd = msgspec.structs.replace(end, attributes=orjson.dumps(attributes))
    return marked_end


def ids(keys: Sequence[Key]) -> list[tuple[str, str]]:
    """Keys in the store's form."""
    return [(trace.hex(), span.hex()) for trace, span in keys]
