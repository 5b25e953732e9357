"""The selectors themselves: small immutable values that can be printed, compared and stored.

A worker on another machine picks the same thing. Picking looks at what the record holds, at once: a selector that
matches nothing says so, and names what there is, instead of waiting for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tracekeeper.judging.view import CannotBind, RecordView, SpanView
from tracekeeper.types import MetricError

Part = Literal["attribute", "input", "output"]
_STEP = re.compile(r"\[(-?\d+)\]|([^.\[\]]+)")
_SHAPE = re.compile(r"(?:\[-?\d+\]|[^.\[\]]+)(?:\[-?\d+\]|\.[^.\[\]]+)*")


class Selector(msgspec.Struct, frozen=True):
    """The base of all selectors."""

    kind: ClassVar[str] = ""
    needs_spans: ClassVar[bool] = False

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        """The value in this record.

        Raises
        ------
        CannotBind
            When there is none, or it was truncated and ``accept_cut`` is not set.
        """
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """The selector as plain data; ``from_spec`` makes it again."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        defaults = dict(zip(reversed(self.__struct_fields__), reversed(self.__struct_defaults__), strict=False))
        return {"select": self.kind, **{name: value for name, value in values.items() if value != defaults[name]}}

    def __repr__(self) -> str:
        stated = ", ".join(f"{name}={value!r}" for name, value in self.spec().items() if name != "select")
        return f"select.{self.kind}({stated})"


class _Field(Selector, frozen=True):
    path: str | None = None

    def __post_init__(self) -> None:
        check_path(self.path, self.kind)

    def __repr__(self) -> str:
        return f"select.{self.kind}({'' if self.path is None else repr(self.path)})"


class Input(_Field, frozen=True):
    """The record's input."""

    kind = "input"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        whole = require(view, "input", accept_cut)
        if self.path is None:
            return sole_input(whole)
        if isinstance(whole, Mapping) and not _has(whole, self.path) and _has(sole_input(whole), self.path):
            return follow(sole_input(whole), self.path, "the record's input")
        return follow(whole, self.path, "the record's input")


class Output(_Field, frozen=True):
    """The record's output."""

    kind = "output"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        return follow(require(view, "output", accept_cut), self.path, "the record's output")


class Expected(_Field, frozen=True):
    """The expected output."""

    kind = "expected"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        return follow(require(view, "expected", accept_cut), self.path, "the expected output")


class Item(_Field, frozen=True):
    """The dataset item's fields."""

    kind = "item"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        return follow(require(view, "item", accept_cut), self.path, "the dataset item")


class Context(Selector, frozen=True):
    """The retrieved documents."""

    kind = "context"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        return require(view, "context", accept_cut)


class Attribute(Selector, frozen=True):
    """An attribute of the record's own span."""

    kind = "attribute"
    needs_spans = True
    name: str = ""

    def __post_init__(self) -> None:
        check_path(self.name or None, "attribute", required=True)

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        found: dict[str, Any] = dict(view.attributes)
        for span in view.spans:
            if span.span_id == view.span_id and span.span_id:
                found = {**span.attributes, **found}
                break
        return follow(found, self.name, "the record's attributes")

    def __repr__(self) -> str:
        return f"select.attribute({self.name!r})"


class Spans(Selector, frozen=True):
    """Something of the spans of a record."""

    kind = "spans"
    needs_spans = True
    span_kind: str | None = None
    name: str | None = None
    part: Part = "output"
    path: str | None = None
    take: Literal["only", "first", "last", "all"] = "only"

    def pick(self, view: RecordView, *, accept_cut: bool = False) -> Any:
        matching = [span for span in view.spans if self._matches(span)]
        if not matching:
            raise CannotBind(self._nothing(view.spans))
        if self.take == "only" and len(matching) > 1:
            raise CannotBind(
                f"{len(matching)} spans match {self._wanted()}; say collect=True, pick='first' or pick='last', "
                "or narrow it down with name="
            )
        if self.take != "all":
            return self._of(matching[-1 if self.take == "last" else 0], accept_cut)
        values = [self._of(span, accept_cut) for span in matching]
        if all(isinstance(value, list) for value in values):
            return [element for value in values for element in value]
        return values

    def _matches(self, span: SpanView) -> bool:
        return (self.span_kind is None or span.kind == self.span_kind) and (self.name is None or span.name == self.name)

    def _of(self, span: SpanView, accept_cut: bool) -> Any:
        place = f"the {self.part} of span {span.name!r}"
        if self.part == "attribute":
            return follow(span.attributes, self.path, f"the attributes of span {span.name!r}")
        if self.part in span.cut and not accept_cut:
            raise CannotBind(f"input truncated: {place} was cut at the capture limit")
        return follow(span.input if self.part == "input" else span.output, self.path, place)

    def _wanted(self) -> str:
        kind = f"kind {self.span_kind!r}" if self.span_kind else ""
        name = f"name {self.name!r}" if self.name is not None else ""
        return " and ".join(part for part in (kind, name) if part) or "the selector"

    def _nothing(self, spans: Sequence[SpanView]) -> str:
        if not spans:
            return f"no span of {self._wanted()}: the record has no spans below it"
        seen = list(dict.fromkeys(f"{span.kind} {span.name!r}" for span in spans))
        listed = ", ".join(seen[:8]) + (", …" if len(seen) > 8 else "")
        near = difflib.get_close_matches(self.name or "", {span.name for span in spans if span.name != self.name}, n=1)
        hint = f"; did you mean name={near[0]!r}?" if near else ""
        return f"no span of {self._wanted()}; the record has: {listed}{hint}"

    def __repr__(self) -> str:
        stated = {"kind": self.span_kind, "name": self.name}
        if self.part == "attribute" or self.path is not None:
            stated[self.part] = self.path
        shown = [f"{name}={value!r}" for name, value in stated.items() if value is not None]
        if self.part == "input" and self.path is None:
            shown.append("input=True")
        if self.take != "only":
            shown.append("collect=True" if self.take == "all" else f"pick={self.take!r}")
        return f"select.spans({', '.join(shown)})"


_KINDS: dict[str, type[Selector]] = {
    cls.kind: cls for cls in (Input, Output, Expected, Item, Context, Attribute, Spans)
}


def from_spec(spec: Mapping[str, Any]) -> Selector:
    """The selector that ``Selector.spec`` described.

    Raises
    ------
    MetricError
        When it describes none of ours (a newer version's).
    """
    values = dict(spec)
    kind = _KINDS.get(values.pop("select", ""))
    try:
        if kind is not None:
            return kind(**values)
    except TypeError:
        pass  # a field that this version does not know: the same answer as an unknown kind
    raise MetricError(f"unknown selector {dict(spec)!r}: it was written by a newer version")


def sole_input(whole: Any) -> Any:
    """The only argument's value when there is one, else the input as it is."""
    if isinstance(whole, Mapping) and len(whole) == 1:
        return next(iter(whole.values()))
    return whole


_ABSENT = {"expected": "no expected output", "context": "no context: nothing was retrieved", "item": "no dataset item"}


def require(view: RecordView, name: str, accept_cut: bool) -> Any:
    """A field of the view, or the reason why it cannot be judged."""
    if name in view.missing:
        raise CannotBind(f"the record's {name} was not captured")
    if name in view.cut and not accept_cut:
        raise CannotBind(f"input truncated: the record's {name} was cut at the capture limit")
    value = getattr(view, name)
    if name in _ABSENT and (value is None or (name == "item" and not value)):
        raise CannotBind(_ABSENT[name])
    if name == "output" and value is None and view.error:
        raise CannotBind(f"no output: the call ended with {view.error.splitlines()[0][:200]}")
    return value


def session_field(view: RecordView, name: str, accept_cut: bool) -> Any:
    """A session's own field, or the reason why it cannot be judged."""
    if name in view.missing:
        raise CannotBind(f"an input or output of the session's {name} was not captured")
    if name in view.cut and not accept_cut:
        more = "more of them than a metric is given, or one was cut at the capture limit"
        raise CannotBind(f"input truncated: the session's {name} are not whole ({more})")
    return view.item[name]


def follow(value: Any, path: str | None, place: str) -> Any:
    """The value at ``path`` within ``value``; a key that itself contains dots is found as it stands."""
    if path is None:
        return value
    if isinstance(value, Mapping) and path in value:
        return value[path]
    here = value
    walked = ""
    for index, key in _STEP.findall(path):
        if index:
            if not isinstance(here, list | tuple) or not -len(here) <= int(index) < len(here):
                size = f"a list of {len(here)}" if isinstance(here, list | tuple) else f"a {type(here).__name__}"
                raise CannotBind(f"nothing at {path!r} in {place}: {walked or 'it'} is {size}")
            here = here[int(index)]
        elif isinstance(here, Mapping) and key in here:
            here = here[key]
        else:
            raise CannotBind(f"nothing at {path!r} in {place}{_what_is_there(here, key)}")
        walked = f"{walked}[{index}]" if index else f"{walked}.{key}".lstrip(".")
    return here


def _what_is_there(here: Any, key: str) -> str:
    if not isinstance(here, Mapping):
        return f": there is a {type(here).__name__}"
    return f": there is {listing(here)}{nearest(key, here)}"


def _has(value: Any, path: str) -> bool:
    try:
        follow(value, path, "")
    except CannotBind:
        return False
    return True


def listing(names: Iterable[Any], limit: int = 12) -> str:
    """Names in a message, bounded."""
    known = [str(name)[:60] for name in names]
    return (", ".join(known[:limit]) + (", …" if len(known) > limit else "")) or "nothing"


def nearest(name: str, known: Iterable[Any]) -> str:
    """``; did you mean x?`` when something like it is known."""
    near = difflib.get_close_matches(name, [str(other) for other in known][:1000], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_path(path: Any, where: str, *, required: bool = False) -> None:
    if path is None and not required:
        return
    if not isinstance(path, str) or not _SHAPE.fullmatch(path):
        raise MetricError(f"select.{where}: {path!r} is not a path; write it as 'name', 'a.b' or 'messages[0].content'")
