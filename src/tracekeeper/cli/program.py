"""``main``: from the words of a command line to an exit code.

Exit codes
----------
0
    Done.
1
    Something failed or is missing: a file, the store, a score.
2
    The command cannot be carried out as written: an unknown option or metric, a filter that does not parse.
3
    Of ``evaluate``: no gate is failed, but calls or scores are missing.
130, 141
    Interrupted by Ctrl-C; the reader of the output went away (``| head``).

An error is one message on standard error. ``--debug`` shows where it came from.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from tracekeeper.cli import arguments
from tracekeeper.types import ConfigurationError, FilterError, MetricError, TracekeeperError

OK, FAILED, USAGE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; nothing is raised but what is no error (``SystemExit`` of nobody).

    Parameters
    ----------
    argv:
        The words after ``tracekeeper``; default: those of the process.

    Example
    -------
    >>> main(["--version"])
    tracekeeper 0.1.0
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help and usage errors, which it has printed
        return stop.code if isinstance(stop.code, int) else OK
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return NO_READER
    except (FilterError, ConfigurationError, MetricError) as error:
        return _say(error, USAGE, debug=debug)
    except (TracekeeperError, OSError) as error:
        return _say(error, FAILED, debug=debug)
    except Exception as error:  # noqa: BLE001  the last resort of a program: say it, keep the traceback for --debug
        return _say(error, FAILED, debug=debug, unexpected=True)


def _run(words: list[str]) -> int:
    parsed = arguments.parse(words)
    arguments.configure(parsed)
    code: int = parsed.run(parsed)
    return code


def _say(error: Exception, code: int, *, debug: bool, unexpected: bool = False) -> int:
    if debug:
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}" if unexpected else str(error)
    hint = " (this is a bug; --debug shows where)" if unexpected and not debug else ""
    print(f"tracekeeper: {what}{hint}", file=sys.stderr)
    return code


def _discard_output() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # standard output has no descriptor (captured by a test): nothing will flush it
        return
