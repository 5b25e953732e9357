"""The errors of Tracekeeper, one tree.

::

    TracekeeperError
    ├── ConfigurationError (ValueError)    a setting that cannot work
    ├── MetricError (ValueError)           a metric that can never be computed as it is declared
    ├── ScoreError (ValueError)            a score from outside that has no value, no name or no target
    ├── FilterError (ValueError)           a filter that does not parse; knows its position
    ├── RecordingError (LookupError)       a recording without the one record that was asked for
    ├── ImportFileError (ValueError)       a file whose format cannot be told, or that has no good line
    ├── DatasetError (ValueError)          items that cannot be kept, or a dataset that cannot be used so
    ├── JournalError (OSError)             the local buffer cannot be opened
    ├── StoreError                         the database cannot be used
    ├── PromptError (ValueError)           what a model is to be asked cannot be sent as it is
    ├── LMError                            a model gave no answer
    │   ├── LMTimeoutError (TimeoutError)      within its deadline
    │   └── OutputError (ValueError)           that is valid by the schema that was asked for
    ├── ItemsFailedError                   items of an experiment that failed, asked for by raise_for_failures()
    ├── WorkerLostError                    the worker that made a call was lost with its process or machine
    ├── Blocked                            a guard kept a call, or its result, from going on
    └── MissingExtraError (ImportError)    an optional library that is not installed

Tracing itself raises none of them into a traced call: they come out of the functions that a program calls
on purpose (``configure``, ``metric``, ``records``, ``flush``), and out of calls that it guards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekeeper.types.score import Score
    from tracekeeper.types.usage import Usage


class TracekeeperError(Exception):
    """The base of every error that Tracekeeper raises on purpose. Catch it to catch them all."""


class ConfigurationError(TracekeeperError, ValueError):
    """A setting has a value that cannot work. The message names the setting, its value and what is allowed."""


class MetricError(TracekeeperError, ValueError):
    """A metric can never be computed as declared (an argument nobody provides, a negative timeout): fix it."""


class ScoreError(TracekeeperError, ValueError):
    """A score given from outside cannot be kept: NaN or no value, no name, or not exactly one thing that is scored."""


class FilterError(TracekeeperError, ValueError):
    """A filter does not parse or compares things that do not compare.

    ``position`` is the 0-based offset of the offending character in ``text``; the message shows it with a caret
    and suggests the nearest known name.
    """

    def __init__(self, message: str, *, text: str = "", position: int = 0) -> None:
        self.text = text
        self.position = position
        caret = f"\n  {text}\n  {' ' * position}^" if text else ""
        super().__init__(f"{message}{caret}")


class RecordingError(TracekeeperError, LookupError):
    """A recording was asked for its one record and has none, or several outermost ones. Use ``recording.records``."""


class ImportFileError(TracekeeperError, ValueError):
    """A file cannot be imported: its format cannot be told, a named field is nowhere in it, or no line is good."""


class DatasetError(TracekeeperError, ValueError):
    """Items cannot be kept as they are, or a dataset cannot be used like this. The message names the item, by position.

    What was stored before stays; inserting the same items again stores no copy of them.
    """


class JournalError(TracekeeperError, OSError):
    """The journal cannot be opened (directory not writable, disk full, foreign file). The message names the path."""


class StoreError(TracekeeperError):
    """The database cannot be used (locked past the deadline, newer than this version, damaged).

    Nothing that was journaled is lost.
    """


class WorkerLostError(TracekeeperError):
    """The process or machine on which a call was made is gone, and with it what came of the call.

    ``evaluate`` makes such a call again a few times, on a worker that does nothing else meanwhile; what then still ends
    so has probably ended its workers itself (a crash in C code, all memory taken).
    """


class MissingExtraError(TracekeeperError, ImportError):
    """An optional library is needed and not installed. The message holds the line that installs it."""


class PromptError(TracekeeperError, ValueError):
    """What a model is to be asked cannot be sent as it is: an image that is not there, a schema that is none, no text.

    Raised before anything is sent. The message names the part.
    """


class LMError(TracekeeperError):
    """A model gave no answer. ``__cause__`` is what its client raised last.

    Attributes
    ----------
    model:
        As it was given to ``tk.LM``.
    status_code:
        Of the provider's answer, where there was one.
    """

    def __init__(self, message: str, *, model: str = "", status_code: int | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.status_code = status_code


class LMTimeoutError(LMError, TimeoutError):
    """A model did not answer within its deadline. ``phase``: connect, first_token, between_tokens, total or place."""

    def __init__(self, message: str, *, model: str = "", phase: str = "total") -> None:
        super().__init__(message, model=model)
        self.phase = phase


class OutputError(LMError, ValueError):
    """A model's answer is not valid by the schema that was asked for, nor is its second one.

    ``text`` is what it said last, ``usage`` what both took.
    """

    def __init__(self, message: str, *, model: str = "", text: str = "", usage: Usage | None = None) -> None:
        super().__init__(message, model=model)
        self.text = text
        self.usage = usage


class ItemsFailedError(TracekeeperError):
    """Items of an experiment did not end well, a metric could not judge them, or they never ran.

    Raised by ``raise_for_failures()`` only; the experiment and everything in it stays as it is. The message names the
    first of them with their errors.

    Attributes
    ----------
    failures:
        Their results (``ItemResult``), in order.
    missing:
        Calls that have no final state.
    experiment_id:
        ``""`` where there is none.
    """

    def __init__(
        self, message: str, *, failures: Sequence[Any] = (), missing: int = 0, experiment_id: str = ""
    ) -> None:
        super().__init__(message)
        self.failures = list(failures)
        self.missing = missing
        self.experiment_id = experiment_id


class ExperimentError(TracekeeperError, LookupError):
    """There is no such experiment, or it cannot be resumed with what was given. The message says what does not fit."""


class Blocked(TracekeeperError):
    """A guard kept a call, or its result, from going on. The message says which metric, its value and the threshold.

    Catch it where the program answers its user, or give the guard ``on_block=``.

    Attributes
    ----------
    guard, kind:
        The guard's name, and ``input``, ``output`` or ``context``.
    metric, score:
        Name and outcome of the metric that decided; its ``status`` tells a judgement from a failure.
    """

    def __init__(
        self, message: str, *, guard: str = "", kind: str = "", metric: str = "", score: Score | None = None
    ) -> None:
        super().__init__(message)
        self.guard = guard
        self.kind = kind
        self.metric = metric
        self.score = score


class TracekeeperWarning(UserWarning):
    """Something is not as the program seems to expect, and Tracekeeper went on (said once per cause)."""
