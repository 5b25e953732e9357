"""``tk.recording()``: handles on the records that are begun inside a block.

A recording is found through a context variable, so it sees what its own thread or task (and what follows its context)
begins, and any number of them may be open at once. Records are scored without it; it is for when one wants the handles.
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType

from tracekeeper.configuration import settings
from tracekeeper.configuration.environment import disabled
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.waiting import RecordsWait
from tracekeeper.tracing.recordings import RecordSink, active
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import RecordingError


class Recording(RecordsWait):
    """The records begun in a ``with tk.recording() as recording`` block, sync or async.

    A recording forces sampling: what is called inside is recorded whatever ``sample`` says.

    Example
    -------
    >>> import tracekeeper as tk
    >>> @tk.trace
    ... def ask(question):
    ...     return "mild"
    >>> with tk.recording() as recording:
    ...     _ = ask("weather?")
    >>> recording.get().output
    'mild'
    """

    def __init__(self) -> None:
        self._begun: list[
            Record
        ] = []  # appended to from any thread, finaliser or signal handler: list.append is atomic
        self._tokens: list[tuple[Token[tuple[RecordSink, ...]], tuple[RecordSink, ...]]] = []

    def begun(self, state: RecordState) -> None:
        """Called by tracing when a record begins while this recording is in force. Lock-free."""
        self._begun.append(Record.of(state))

    @property
    def records(self) -> list[Record]:
        """Every record begun in the block, in the order they began, those of nested apps too."""
        return list(self._begun)

    @property
    def outermost(self) -> list[Record]:
        """The records that no other record of this recording encloses."""
        inside = {record.span_id for record in self._begun}
        return [record for record in self._begun if record.enclosing_span_id not in inside]

    def get(self) -> Record:
        """The one outermost record begun in the block.

        Raises
        ------
        RecordingError
            When there is none, or more than one; use ``records`` then.
        """
        found = self.outermost
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted({record.name for record in found}))
            raise RecordingError(f"{len(found)} records were begun in this recording ({names}): use recording.records")
        if disabled() or not settings().enabled:
            return Record.inert()
        raise RecordingError(
            "no record was begun in this recording: call a function made with @tk.app or @tk.trace inside the block "
            "(in a thread of one's own the context must be carried along: contextvars.copy_context().run)"
        )

    def __enter__(self) -> Recording:
        sinks = (*active.get(), self)
        self._tokens.append((active.set(sinks), sinks))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        mine = active.get()
        for position in range(len(self._tokens) - 1, -1, -1):
            token, sinks = self._tokens[position]
            if sinks is mine:
                del self._tokens[position]
                try:
                    active.reset(token)
                except ValueError:  # left in another context (a generator closed elsewhere): undo by value
                    active.set(tuple(sink for sink in mine if sink is not self))
                return

    async def __aenter__(self) -> Recording:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<Recording of {len(self._begun)} records>"


def recording() -> Recording:
    """Open a recording: ``with tk.recording() as recording: …`` (or ``async with``)."""
    return Recording()
