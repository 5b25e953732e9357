"""The metric: a function that judges, with where its arguments come from and how it is to be run.

A metric never changes after it is made, so one object can serve several apps, threads and evaluations at once;
``replace`` and ``on`` give changed copies. It is checked when it is made: what can never work is an error then, not a
column of failures later.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar, Self, Unpack

import msgspec

from tracekeeper.concurrency import is_async
from tracekeeper.concurrency.pauses import back_off
from tracekeeper.journal.frames import Definition
from tracekeeper.judging import binding, results
from tracekeeper.judging.annotations import may_have_field
from tracekeeper.judging.checks import check_callable, check_selectors, name_of
from tracekeeper.judging.fingerprint import digest, fingerprint
from tracekeeper.judging.fingerprint import parameters as plain_parameters
from tracekeeper.judging.importing import import_path, load
from tracekeeper.judging.isolation import check_isolation, check_pickled
from tracekeeper.judging.options import DEFAULTS, Direction, Isolation, MetricOptions, checked
from tracekeeper.judging.picking import Selector
from tracekeeper.judging.results import Range
from tracekeeper.judging.view import CannotBind, RecordView
from tracekeeper.types import MetricMode, Score, ScoreSource

_log = logging.getLogger("tracekeeper")


class Metric:
    """A function that judges a record, with everything needed to run it. Make one with ``tk.metric``.

    Calling it calls the function. Its attributes are read-only:

    Attributes
    ----------
    name, names:
        Its name, and the names of the scores it gives: ``("m",)``, or ``("m.a", "m.b")`` when it declares ``names``.
    version:
        The explicit version, or a hash of code, closure, defaults, parameters and selectors.
    mode, timeout, retries, sample, direction, range, source, requires, needs_live, accept_cut, traced, priority,
    concurrency, isolation, memory_limit:
        As given to ``tk.metric``.
    import_path:
        ``module:qualname`` by which another process finds it, ``None`` when only this process can compute it.
    parameters:
        What its function was made with, when that is plain data.
    needs_spans:
        Whether it may look at the record's spans.
    """

    home: ClassVar[str | None] = None
    """Module under which a subclass is public, when that is not where it is written."""

    function: Callable[..., Any]
    name: str
    names: tuple[str, ...]
    parts: tuple[str, ...] | None
    version: str
    mode: MetricMode
    timeout: float
    retries: int
    sample: float
    direction: Direction | None
    range: Range | None
    source: ScoreSource
    requires: tuple[str, ...]
    needs_live: bool
    accept_cut: bool
    traced: bool
    priority: int
    concurrency: int | None
    isolation: Isolation
    memory_limit: int | None
    needs_spans: bool
    parameters: Mapping[str, Any]
    selectors: Mapping[str, Selector]
    _wanted: binding.Parameters
    _options: dict[str, Any]
    _warned: set[str]

    def __init__(self, function: Callable[..., Any], **options: Unpack[MetricOptions]) -> None:
        check_callable(function)
        where = f"metric {name_of(function)!r}"
        self._fill(function, {**DEFAULTS, **checked(where, dict(options))}, {})

    def _fill(self, function: Callable[..., Any], options: dict[str, Any], selectors: dict[str, Selector]) -> None:
        name = options["name"] or name_of(function)
        wanted = binding.parameters_of(function)
        wanted = wanted.wraps or wanted
        check_selectors(name, wanted, selectors)
        check_isolation(name, function, options)
        made_with = plain_parameters(function)
        parts = options["names"]
        self.__dict__.update(
            {key: value for key, value in options.items() if key not in ("name", "names", "version")},
            function=function,
            name=name,
            parts=parts,
            names=results.full_names(name, parts),
            selectors=MappingProxyType(dict(selectors)),
            parameters=MappingProxyType(made_with or {}),
            needs_spans=binding.needs_spans(wanted, selectors),
            _wanted=wanted,
            _options=options,
            _warned=set(),
            __wrapped__=function,
        )
        self.__dict__["version"] = self._version(options["version"], made_with)
        if type(self) is Metric:
            for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
                value = getattr(function, attribute, None)
                if isinstance(value, str):
                    self.__dict__[attribute] = value

    def _version(self, explicit: str | None, made_with: dict[str, Any] | None) -> str:
        chosen = [selector.spec() | {"for": name} for name, selector in sorted(self.selectors.items())]
        if explicit is None:
            return fingerprint(self.function, chosen) if chosen else fingerprint(self.function)
        depends = [made_with, chosen]
        return f"{explicit}-{digest(depends)[:8]}" if made_with or chosen else explicit

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a metric does not change; use metric.replace({name}=…), which gives a changed copy")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a metric does not change")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Metric:
        # A decorated method behaves as a method: reached through an instance, its `self` is that instance.
        if instance is None or not inspect.isfunction(self.function):
            return self
        return self.with_function(self.function.__get__(instance, owner))

    def __repr__(self) -> str:
        said = [repr(self.name)]
        said += [
            f"{option}={str(value) if option in ('mode', 'source') else value!r}"
            for option, value in self._options.items()
            if option != "name" and value != DEFAULTS[option]
        ]
        said += [f"{name}={selector!r}" for name, selector in self.selectors.items()]
        return f"Metric({', '.join(said)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Under a decorated function's name pickle would find the metric instead of the function, so it goes by path.
        by_path = inspect.isroutine(self.function) and type(self) is Metric and self.import_path
        return _unpickled, (type(self), by_path or self.function, self._options, dict(self.selectors))

    def replace(self, **options: Unpack[MetricOptions]) -> Self:
        """A copy with some options changed.

        Raises
        ------
        MetricError
            A value that cannot work, or an unknown option.

        Example
        -------
        >>> def short(output): return len(output) < 100
        >>> Metric(short).replace(timeout=5).timeout
        5.0
        """
        return self._copy(options={**self._options, **checked(f"metric {self.name!r}", dict(options))})

    def on(self, **selectors: Selector) -> Self:
        """A copy whose arguments come from where the selectors say, instead of from their names.

        Raises
        ------
        MetricError
            A name that is no parameter of the function (the nearest is named), or something that is no selector.

        Example
        -------
        >>> from tracekeeper.judging import select
        >>> def count(documents): return len(documents)
        >>> Metric(count).on(documents=select.spans(kind="retriever", collect=True))
        Metric('count', documents=select.spans(kind='retriever', collect=True))
        """
        return self._copy(selectors={**self.selectors, **selectors})

    def _copy(
        self,
        *,
        function: Callable[..., Any] | None = None,
        options: dict[str, Any] | None = None,
        selectors: dict[str, Selector] | None = None,
    ) -> Self:
        made = type(self).__new__(type(self))
        made._fill(
            self.function if function is None else function,
            self._options if options is None else options,
            dict(self.selectors) if selectors is None else selectors,
        )
        return made

    def check(self, parameters: Iterable[str] | None, output: Any = None) -> None:
        """Refuse what can never be computed on records of this app.

        Parameters
        ----------
        parameters:
            The names of the app's parameters or the dataset's fields; ``None`` when they are not known.
        output:
            The app's return annotation; ``None`` when it has none.

        Raises
        ------
        MetricError
            A required argument that nothing can provide; the message names what is available and the nearest name.
        """
        check_pickled(self)
        given = None if parameters is None else frozenset(parameters)
        binding.check(self.name, self._wanted, self.selectors, given, lambda name: may_have_field(output, name))

    def bind(self, view: RecordView) -> Callable[[], Any]:
        """The call of the function with this record's values, ready to be made.

        Raises
        ------
        CannotBind
            When the record lacks something that is required: the score is ``skipped`` with its reason.
        """
        try:
            return binding.bind(self.function, self._wanted, self.selectors, view, accept_cut=self.accept_cut)
        except CannotBind as cannot:
            if cannot.unknown is not None and cannot.unknown not in self._warned:
                self._warned.add(cannot.unknown)
                # A log line, not a Python warning: this runs on engine threads, where a warning turned into an error
                # would have nobody to catch it.
                _log.warning("metric %r is skipped: %s (said once)", self.name, cannot.reason)
            raise

    def scores(self, result: Any) -> list[tuple[str, Score]]:
        """The scores, by full name, of whatever the function returned. Never raises."""
        return results.scores(result, name=self.name, parts=self.parts, bounds=self.range)

    @property
    def allowance(self) -> float:
        """Seconds that it allows itself at most: every attempt's timeout and the pauses between."""
        return (self.retries + 1) * self.timeout + sum(map(back_off, range(1, self.retries + 1)))

    @property
    def import_path(self) -> str | None:
        """``module:qualname``, looked up when it is asked for: a decorator runs before its name exists."""
        if "_import_path" not in self.__dict__:
            if type(self) is not Metric:
                found = self._class_path()
            else:
                found = import_path(self.function, lambda other: _stands_for(other, self.function))
            if found is None:
                return None  # not kept: the module may still be executing
            self.__dict__["_import_path"] = found
        path: str = self.__dict__["_import_path"]
        return path

    def _class_path(self) -> str | None:
        cls = type(self)
        if cls.home is not None and plain_parameters(self.function) is not None:
            return f"{cls.home}:{cls.__name__}"
        return None

    @cached_property
    def asynchronous(self) -> bool:
        """Whether its function belongs on an event loop."""
        return is_async(self.function)

    @property
    def local(self) -> bool:
        """Whether only this process can compute it."""
        return self.import_path is None

    def with_function(self, function: Callable[..., Any]) -> Self:
        """A copy that calls another function, with everything else as it is."""
        return self._copy(function=function)

    def description(self) -> dict[str, Any]:
        """The metric as plain data: everything that ``restore`` needs, and what pages and tables show."""
        return {
            "name": self.name,
            "version": self.version,
            "explicit_version": self._options["version"],
            "import_path": self.import_path,
            "parameters": dict(self.parameters),
            "names": None if self.parts is None else list(self.parts),
            "scores": list(self.names),
            "mode": str(self.mode),
            "timeout": self.timeout,
            "retries": self.retries,
            "sample": self.sample,
            "direction": self.direction,
            "range": None if self.range is None else list(self.range),
            "source": str(self.source),
            "requires": list(self.requires),
            "needs_live": self.needs_live,
            "accept_cut": self.accept_cut,
            "traced": self.traced,
            "priority": self.priority,
            "concurrency": self.concurrency,
            "isolation": self.isolation,
            "memory_limit": self.memory_limit,
            "selectors": {name: selector.spec() for name, selector in self.selectors.items()},
        }

    def definition(self) -> Definition:
        """What the journal says about the metric, once."""
        return Definition(
            kind="metric", name=self.name, version=self.version, data=msgspec.json.encode(self.description())
        )


def _unpickled(
    cls: type[Metric], function: Callable[..., Any] | str, options: dict[str, Any], selectors: dict[str, Selector]
) -> Metric:
    if isinstance(function, str):
        found = load(function)
        function = found.function if isinstance(found, Metric) else found
    made = cls.__new__(cls)
    made._fill(function, options, selectors)
    return made


def _stands_for(found: Any, function: Callable[..., Any]) -> bool:
    target = function.func if isinstance(function, partial) else function
    return isinstance(found, Metric) and found.function == target
