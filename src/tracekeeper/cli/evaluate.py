"""Call a task with every item of a dataset, judge every call, and say by the exit code whether a build may pass.

TASK is module:name, looked for in the working directory too, as are metrics of one's own. Running this command imports
and runs those modules. The dataset is a file (JSON Lines, JSON, CSV, YAML or Parquet, told by content and ending) or
the name of a stored one. Results are stored as an experiment. --fail-under and --max-regression are gates: a regression
fails only when it is larger than allowed and more than noise (p < 0.05).

Exit codes: 0 every gate is passed; 1 a gate is failed; 2 the arguments cannot work, and nothing was called; 3 no gate
is failed, but calls have not ended, or more calls or scores failed than --max-failures; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracekeeper.cli.evaluation_inputs import (
    baseline_of,
    data_of,
    limits_of,
    names_of,
    pairs_of,
    place_for,
    run_metrics_of,
    task_of,
)
from tracekeeper.cli.metrics_given import find_metrics
from tracekeeper.cli.output import count, dollars, require_tracing, seconds
from tracekeeper.evaluation import stored
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.evaluate import evaluate
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.gates import USAGE, Decision, decide
from tracekeeper.evaluation.going_on import FAILED, OUTCOMES
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.plan import make_plan
from tracekeeper.evaluation.results import Results
from tracekeeper.evaluation.resuming import rerun_failures, resume
from tracekeeper.judging import Metric
from tracekeeper.reading import flush
from tracekeeper.reading.receipts import receipt_text
from tracekeeper.types import ConfigurationError, DatasetError, ExperimentError

EXAMPLES = """\
tracekeeper evaluate my_app:answer --dataset questions.jsonl --metric OverlapGroundedness
tracekeeper evaluate my_app:answer --dataset questions.jsonl --metric exact_match --metric my_app.metrics:cites \\
    --fail-under exact_match=80% --baseline main --max-regression 0.02 --junit results.xml --html results.html
tracekeeper evaluate my_app:answer --dataset questions.jsonl --metric exact_match --resume 0123456789abcdef
tracekeeper evaluate my_app:answer --dataset questions.jsonl --metric exact_match --rerun-failures main
"""

INTERRUPTED = 130
_RUN = (
    "name",
    "version",
    "concurrency",
    "timeout",
    "retries",
    "repeats",
    "isolation",
    "max_failures",
    "budget",
    "filter",
    "sample",
    "seed",
)
"""Options of a fresh run: an experiment that is resumed has its own."""
_GOES_ON = ("resume", "rerun_failures")
"""Options that name an experiment to go on with."""


def whole(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def some(text: str) -> float:
    """So many items, or a share of them."""
    try:
        number: float = int(text) if text.isdecimal() else float(text)
    except ValueError:
        number = 0
    if number <= 0 or (isinstance(number, float) and number > 1):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of items, or a share of them above 0, up to 1.0")
    return number


def outcomes(text: str) -> list[str]:
    """Outcomes of calls, with commas between."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [word for word in found if word not in OUTCOMES]
    if wrong or not found:
        raise argparse.ArgumentTypeError(f"{(wrong or [text])[0]!r}: expected some of {', '.join(OUTCOMES)}")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("task", metavar="TASK", help="module:name of a function, coroutine function or app")
    add = parser.add_argument_group("what is run").add_argument
    add(
        "--dataset",
        metavar="DATA",
        required=True,
        help="a file of items in any format, or a stored dataset's name",
    )
    add("--metric", metavar="NAME", action="append", default=[], help="a built-in metric or module:name (repeatable)")
    whole_run = "module:name of a function of all results, which judges the run as a whole (repeatable)"
    add("--experiment-metric", metavar="NAME", action="append", default=[], help=whole_run)
    add("--param", metavar="K=V", action="append", default=[], help="a parameter; METRIC.K=V for one of several")
    add("--map", metavar="ARG=FIELD", action="append", default=[], help="where metrics find an argument (repeatable)")
    add("--name", metavar="NAME", help="of the experiment (default: the task's)")
    add("--version", metavar="TEXT", help="of the task (default: the app's, else 1)")
    add("--concurrency", metavar="N", type=count, help="calls at a time (default: 32)")
    add("--timeout", metavar="SECONDS", type=seconds, help="of each attempt of a call (default: 60)")
    add("--retries", metavar="N", type=whole, help="of a call that raised or timed out (default: 0)")
    add("--repeats", metavar="N", type=count, help="calls of each item (default: 1)")
    apart = "process: calls in processes of their own, which may crash and are killed at a deadline (default: thread)"
    add("--isolation", choices=("thread", "process"), help=apart)
    add("--filter", metavar="FILTER", help="the items that match, e.g. 'tag = hard and input.topic = weather'")
    add("--sample", metavar="N", type=some, help="so many items (5), or each with this chance (0.1) (default: all)")
    add("--seed", metavar="N", type=int, help="of the sample (default: 0)")
    add("--budget", metavar="USD", type=dollars, help="nothing more begins once reported costs add up to it")
    add("--resume", metavar="ID", help="do the rest of this experiment (id or name), with the same items and metrics")
    add("--rerun-failures", metavar="ID", help="call again what failed in this experiment, and keep all else as it is")
    those = f"which calls that is: some of {', '.join(OUTCOMES)}, with commas between (default: {','.join(FAILED)})"
    add("--outcomes", metavar="LIST", type=outcomes, help=those)
    add = parser.add_argument_group("whether a build may pass").add_argument
    add("--fail-under", metavar="NAME=N", action="append", default=[], help="the worst mean that passes (repeatable)")
    add("--baseline", metavar="RUN", help="an experiment's name or id, or a file that --json wrote")
    worse = "how much worse than the baseline a mean may be; NAME=N for one metric (repeatable)"
    add("--max-regression", metavar="N", action="append", default=[], help=worse)
    add("--max-failures", metavar="N", type=whole, help="failed calls that are allowed; after more nothing begins")
    add = parser.add_argument_group("where results go besides").add_argument
    add("--junit", metavar="FILE", help="JUnit XML: a test for each call, and in a suite of their own for each gate")
    add("--html", metavar="FILE", help="a page that opens without a server")
    add("--json", metavar="FILE", help="everything, e.g. as a baseline")
    add("--markdown", metavar="FILE", help="for a pull request")
    add("--no-progress", action="store_true", help="do not show on standard error how far it is")


class Asked(NamedTuple):
    """A command line of which everything has been looked at."""

    task: Callable[..., Any]
    data: Sequence[Item] | Dataset
    metrics: list[Metric]
    run_metrics: tuple[Metric, ...]
    mapping: dict[str, str]
    fail_under: dict[str, float]
    max_regression: float | dict[str, float] | None
    baseline: Results | None
    files: dict[str, Path]
    max_failures: int


def run(parsed: argparse.Namespace) -> int:
    """Evaluate. The exit code is that of the gates."""
    require_tracing()
    try:
        asked = looked_at(parsed)
    except (DatasetError, ExperimentError) as error:
        raise ConfigurationError(str(error)) from error
    try:
        experiment = _evaluated(parsed, asked)
    except ExperimentError as error:  # a resume with other items or metrics: nothing was called
        raise ConfigurationError(str(error)) from error
    except BaseException as error:  # the second Ctrl-C among them
        known = getattr(error, "experiment_id", None)
        if known is not None:
            _say_resume(parsed.command_line, known)
        raise
    experiment.print()
    if asked.baseline is not None:
        print()
        experiment.compare(asked.baseline).print()
    decision, undecided = _decided(experiment, asked)
    _write(experiment, asked, decision)
    receipt = flush(timeout=30)
    if not receipt.complete:
        print(receipt_text(receipt), file=sys.stderr)
    if decision is None:
        print(f"tracekeeper: {undecided}", file=sys.stderr)
        return USAGE
    print()
    print(decision.text)
    if experiment.interrupted:
        _say_resume(parsed.command_line, experiment.id)
        return INTERRUPTED
    return decision.exit_code


def looked_at(parsed: argparse.Namespace) -> Asked:
    """Everything that was typed, made into what it names.

    Raises
    ------
    ConfigurationError, MetricError, DatasetError, ExperimentError
        What is wrong, in one sentence. Nothing was called.
    """
    going_on = [name for name in _GOES_ON if getattr(parsed, name) is not None]
    if len(going_on) > 1:
        raise ConfigurationError("--resume does the rest, --rerun-failures calls again what failed: give one of them")
    if parsed.outcomes is not None and parsed.rerun_failures is None:
        raise ConfigurationError("--outcomes says what --rerun-failures calls again; name the experiment by that")
    for name in _RUN if going_on else ():
        if getattr(parsed, name) is not None:
            raise ConfigurationError(f"{_option(name)} is for a new run; {_option(going_on[0])} goes on as it began")
    files = {}
    for kind in ("junit", "html", "json", "markdown"):
        place = place_for(f"--{kind}", getattr(parsed, kind))
        if place is not None:
            files[kind] = place
    task = task_of(parsed.task)
    metrics = find_metrics(parsed.metric, parsed.param, None)
    whole_run = run_metrics_of(parsed.experiment_metric)
    mapping = pairs_of("--map", parsed.map)
    data = data_of(parsed.dataset)
    plan = make_plan(data, task, metrics, mapping=mapping, filter=parsed.filter)
    names = names_of(plan.metrics, list(zip(parsed.metric, metrics, strict=True)))
    worse = limits_of("--max-regression", parsed.max_regression, names, alone=True)
    limit = worse.get("", worse or None)
    max_failures = parsed.max_failures
    for name in going_on:
        max_failures = stored.defined(getattr(parsed, name)).data["options"]["max_failures"]
    return Asked(
        task=task,
        data=data,
        metrics=metrics,
        run_metrics=whole_run,
        mapping=mapping,
        fail_under=limits_of("--fail-under", parsed.fail_under, names, alone=False),
        max_regression=limit,
        baseline=None if parsed.baseline is None else baseline_of(parsed.baseline),
        files=files,
        max_failures=max_failures or 0,
    )


def _evaluated(parsed: argparse.Namespace, asked: Asked) -> Experiment:
    progress = not parsed.no_progress
    given: Any = {"metrics": asked.metrics, "mapping": asked.mapping, "progress": progress}
    given["experiment_metrics"] = asked.run_metrics
    if parsed.resume is not None:
        return resume(parsed.resume, task=asked.task, data=asked.data, **given)
    if parsed.rerun_failures is not None:
        which = parsed.outcomes or FAILED
        return rerun_failures(parsed.rerun_failures, task=asked.task, data=asked.data, outcomes=which, **given)
    given |= {name: getattr(parsed, name) for name in _RUN if getattr(parsed, name) is not None}
    return evaluate(asked.data, asked.task, **given)


def _write(experiment: Experiment, asked: Asked, decision: Decision | None) -> None:
    write: dict[str, Callable[[Path], Any]] = {
        "junit": lambda path: experiment.to_junit(path, decision=decision),
        "html": lambda path: experiment.to_html(path, baseline=asked.baseline),
        "json": experiment.to_json,
        "markdown": experiment.to_markdown,
    }
    if asked.files:
        print()
    for kind, place in asked.files.items():
        write[kind](place)
        print(f"written: {place}")


def _decided(experiment: Experiment, asked: Asked) -> tuple[Decision | None, str]:
    """The verdict of the gates; or that there is none, and why: only results can show that a metric gives labels."""
    try:
        decision = decide(
            experiment,
            fail_under=asked.fail_under,
            baseline=asked.baseline,
            max_regression=asked.max_regression,
            max_failures=asked.max_failures,
        )
    except ValueError as error:
        return None, str(error)
    return decision, ""


def _say_resume(words: list[str], experiment: str) -> None:
    print(f"tracekeeper: what has ended is kept; the rest: {rest_of(words, experiment)}", file=sys.stderr)


def rest_of(words: list[str], experiment: str) -> str:
    """The words of a command line with ``--resume`` instead of the options of a fresh run.

    >>> rest_of(["evaluate", "my_app:task", "--dataset", "a b.jsonl", "--retries", "2", "--sample=5"], "0123")
    "tracekeeper evaluate my_app:task --dataset 'a b.jsonl' --resume 0123"
    """
    dropped = {_option(name) for name in (*_RUN, *_GOES_ON, "outcomes")}
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.partition("=")[0] in dropped:
            skip = "=" not in word
        else:
            kept.append(word)
    return shlex.join(["tracekeeper", *kept, "--resume", experiment])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
