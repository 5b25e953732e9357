"""``tk.guard``: ``.input``, ``.output`` and ``.context``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tracekeeper.judging import Metric
from tracekeeper.scoring.guards.rule import NOT_GIVEN, Kind, OnFailure, make_rule
from tracekeeper.scoring.guards.shells import guarded

F = TypeVar("F", bound=Callable[..., Any])


class Guards:
    """Metrics that decide whether a call may go on: ``tk.guard.input``, ``tk.guard.output``, ``tk.guard.context``.

    Each is a decorator for functions, methods, partials, callable objects and apps, sync or async, above or below
    ``@tk.app`` and ``@tk.trace``. The metrics of a guard run in parallel within its one deadline, on threads and event
    loops of Tracekeeper, and see the call's own objects. The decision is a span of kind ``guardrail`` below the current
    one. The kill switch, ``enabled=False`` and sampling never turn a guard off.

    What passes: a number of at least ``threshold`` (at most, when the metric's direction is ``minimize``), ``True``
    (``False`` for ``minimize``), a label in ``allow``. A metric that raises, times out, returns ``None`` or cannot be
    computed has not judged: ``on_failure`` says what happens then, and has no default.

    Parameters
    ----------
    metrics:
        ``tk.metric`` objects or functions. Their mode, sampling and retries have no meaning here.
    threshold:
        A number, or a mapping of metric names to numbers.
    allow:
        The labels that pass.
    on_failure:
        ``"block"`` or ``"allow"``.
    timeout:
        Seconds for everything together. Default: the largest of the metrics' own timeouts.
    on_block:
        What a blocked call returns instead of raising ``tk.Blocked``: a value, or a function that gets the exception
        and returns one (async only for async callables).
    name:
        The guard's name in spans and errors. Default: the names of its metrics.

    Raises
    ------
    ConfigurationError
        An option that is unknown, missing or cannot work; ``output`` and ``context`` on a generator.
    MetricError
        A metric that needs what such a guard does not have.

    Example
    -------
    >>> def polite(input):
    ...     return "please" in input
    >>> @guard.input(polite, on_failure="block", on_block=lambda blocked: f"Sorry: {blocked.metric}")
    ... def ask(question):
    ...     return "mild"
    >>> ask("The weather, please?"), ask("Weather!")
    ('mild', 'Sorry: polite')
    """

    def input(
        self,
        *metrics: Metric | Callable[..., Any],
        threshold: float | Mapping[str, float] | None = None,
        allow: Iterable[str] | None = None,
        on_failure: OnFailure = NOT_GIVEN,
        timeout: float | None = None,
        on_block: Any = NOT_GIVEN,
        name: str | None = None,
        **unknown: Any,
    ) -> Callable[[F], F]:
        """Judge the arguments before the call: metrics see ``input`` and each argument by its name.

        Of a generator, when its first piece is asked for; ``on_block`` is then its only piece.

        Example
        -------
        >>> @guard.input(lambda question: len(question), threshold=3, on_failure="block")
        ... def ask(question):
        ...     return "mild"
        >>> ask("?")
        Traceback (most recent call last):
        tracekeeper.types.errors.Blocked: the input guard 'lambda' blocked the call: 'lambda' is 1, wanted is at least 3
        """
        return _decorator("input", metrics, threshold, allow, on_failure, timeout, name, on_block=on_block, **unknown)

    def output(
        self,
        *metrics: Metric | Callable[..., Any],
        threshold: float | Mapping[str, float] | None = None,
        allow: Iterable[str] | None = None,
        on_failure: OnFailure = NOT_GIVEN,
        timeout: float | None = None,
        on_block: Any = NOT_GIVEN,
        name: str | None = None,
        **unknown: Any,
    ) -> Callable[[F], F]:
        """Judge the result before the caller gets it: metrics see ``output``, the arguments, and ``context``.

        ``context`` is what retrievers below the call returned: those that are traced with ``kind="retriever"`` or have
        a ``context`` guard. With the kill switch only the latter are known.

        Example
        -------
        >>> @guard.output(lambda output: "secret" not in output, on_failure="block", on_block="I cannot say.")
        ... async def ask(question):
        ...     return f"the secret of {question}"
        >>> import asyncio
        >>> asyncio.run(ask("life"))
        'I cannot say.'
        """
        return _decorator("output", metrics, threshold, allow, on_failure, timeout, name, on_block=on_block, **unknown)

    def context(
        self,
        *metrics: Metric | Callable[..., Any],
        threshold: float | Mapping[str, float] | None = None,
        allow: Iterable[str] | None = None,
        on_failure: OnFailure = NOT_GIVEN,
        timeout: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> Callable[[F], F]:
        """Let a retriever return only the documents that pass, in their order, as the same sort of sequence.

        Each is judged on its own, all in parallel: metrics see ``document`` (the object itself), ``context`` (it alone)
        and ``output`` (its text), and the retriever's arguments. ``on_failure="block"`` leaves a document out.

        Example
        -------
        >>> @guard.context(lambda question, document: question in document, on_failure="block")
        ... def retrieve(question):
        ...     return ["rain in Cork", "sun in Rome"]
        >>> retrieve("rain")
        ['rain in Cork']
        """
        return _decorator("context", metrics, threshold, allow, on_failure, timeout, name, **unknown)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tk.guard has no {name!r}: use tk.guard.input, tk.guard.output or tk.guard.context")

    def __repr__(self) -> str:
        return "<tk.guard: input, output, context>"


def _decorator(
    kind: Kind,
    metrics: tuple[Any, ...],
    threshold: Any,
    allow: Any,
    on_failure: Any,
    timeout: float | None,
    name: str | None,
    **others: Any,
) -> Callable[[F], F]:
    stated = {"threshold": threshold, "allow": allow, "on_failure": on_failure, "timeout": timeout, "name": name}
    rule = make_rule(kind, metrics, {**stated, **others})
    return lambda target: guarded(rule, target)


guard: Guards = Guards()
