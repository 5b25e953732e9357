"""How a task is called with a dataset item: by name where its parameters are fields, else with the whole input.

Only a task gets its input by position. The expected output is never passed unless a parameter asks for it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tracekeeper.judging.binding import Parameters, parameters_of
from tracekeeper.judging.picking import listing, nearest, sole_input
from tracekeeper.judging.view import CannotBind
from tracekeeper.types import MetricError

NOT_INPUT = frozenset({"expected", "reference"})


def bind_task(
    function: Callable[..., Any], item: Mapping[str, Any], wanted: Parameters | None = None
) -> Callable[[], Any]:
    """The call of a task with one item, ready to be made.

    Fields are passed by name to the parameters of that name, and to ``**kwargs`` those that are left (without
    ``expected``). A task with one required parameter that is no field, or with bare ``*args``, gets the whole input:
    the only field's value if there is one, else the mapping of the fields (without ``expected``). A wrapper ``(*args,
    **kwargs)`` gets what the function that it has closed over would get, or the fields by name. ``wanted`` is what
    ``parameters_of(function)`` gave: reading a signature takes longer than all else here, so whoever binds many
    items does it once.

    Raises
    ------
    CannotBind
        When a required parameter is none of the fields; the nearest is named.

    Example
    -------
    >>> bind_task(lambda question: question.upper(), {"question": "why?", "expected": "so"})()
    'WHY?'
    >>> bind_task(lambda row: sorted(row), {"a": 1, "b": 2})()
    ['a', 'b']
    """
    if wanted is None:
        wanted = parameters_of(function)
    if wanted.wraps is not None:
        try:
            return bind_task(function, item, wanted.wraps)
        except CannotBind:  # what it has closed over is not what it calls
            pass
    if wanted.takes_whole:
        inputs = {name: value for name, value in _inputs(item).items() if name not in wanted.fixed}
        if wanted.takes_any and len(inputs) > 1:
            return partial(function, **inputs)
        return partial(function, sole_input(inputs))
    missing = [name for name in wanted.names if name in wanted.required and name not in item]
    if not missing:
        return _by_name(function, wanted, {name: copy_plain(value) for name, value in item.items()})
    if len(missing) == 1 and wanted.names[0] == missing[0]:
        inputs = _inputs(item)
        others = {name: copy_plain(item[name]) for name in wanted.named if name in item and name != missing[0]}
        return partial(function, sole_input(inputs) if not others else inputs, **others)
    raise CannotBind(
        f"the task's parameter {missing[0]!r} is no field of the item; "
        f"it has: {listing(item)}{nearest(missing[0], item)}"
    )


def copy_plain(value: Any) -> Any:
    """A copy of what JSON can hold (a task may change its input, the dataset may not); other objects as they are."""
    if type(value) is dict:
        return {key: copy_plain(inner) for key, inner in value.items()}
    if type(value) is list:
        return [copy_plain(inner) for inner in value]
    return value


def check_task(function: Callable[..., Any], fields: Iterable[str]) -> None:
    """Refuse a task that no item with these fields can be passed to, before the first one is run.

    Raises
    ------
    MetricError
        Naming the parameter and the nearest field.
    """
    try:
        bind_task(function, dict.fromkeys(fields))
    except CannotBind as cannot:
        raise MetricError(cannot.reason) from None


def _inputs(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy_plain(value) for name, value in item.items() if name not in NOT_INPUT}


def _by_name(function: Callable[..., Any], wanted: Parameters, item: Mapping[str, Any]) -> Callable[[], Any]:
    args = []
    for name in wanted.positional:
        if name not in item:
            break
        args.append(item[name])
    named = {name: item[name] for name in wanted.named if name in item}
    if wanted.takes_any:
        apart = NOT_INPUT | wanted.fixed | {*wanted.names}
        named |= {name: value for name, value in item.items() if name not in apart}
    return partial(function, *args, **named)
