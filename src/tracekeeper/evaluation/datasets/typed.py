"""``Dataset[In, Out]``: items whose inputs and expected outputs have a type.

A type is a pydantic model, a msgspec struct, a dataclass, a ``TypedDict`` or a plain type such as ``str``. A type with
fields is that of the item's fields; any other one is that of its field ``input``. What is stored is what the type makes
of an item: defaults are filled in, and a field that the type does not know is refused rather than lost.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tracekeeper.evaluation.datasets.plain import mapping_of, plain
from tracekeeper.evaluation.datasets.schema import around
from tracekeeper.evaluation.item import Item, item_id
from tracekeeper.types import DatasetError

In = TypeVar("In")
Out = TypeVar("Out")

_EXPECTED = ("expected", "reference")


class TypedItem(NamedTuple, Generic[In, Out]):
    """An item with its input and expected output as their types."""

    id: str
    input: In
    expected: Out | None
    tags: tuple[str, ...]
    split: str


class Types(NamedTuple):
    """The types of a dataset. ``Any`` is every type."""

    input: Any
    expected: Any

    def opened(self, raw: Any) -> Any:
        """A pair of an input and what is expected, or a model, as fields; anything else as it is."""
        if isinstance(raw, tuple) and not hasattr(raw, "_fields") and len(raw) == 2:
            fields = _opened(raw[0])
            return {**({"input": raw[0]} if fields is None else fields), "expected": raw[1]}
        fields = None if isinstance(raw, Item) else _opened(raw)
        return raw if fields is None else fields

    def checked(self, item: Item) -> Item:
        """The item as its types have it.

        Raises
        ------
        DatasetError
            It does not fit them; the message says why.
        """
        typed = self.typed(item)
        fields = dict(item.fields)
        if self.input is not Any:
            made = _dumped(typed.input)
            fields = made if isinstance(made, dict) and _has_fields(self.input) else {"input": made}
            unknown = [name for name in item.inputs if name not in fields and name not in _names(self.input)]
            if unknown:
                raise DatasetError(f"field {unknown[0]!r} is none of {_name(self.input)}, so it would be lost")
            fields |= {name: item.fields[name] for name in _EXPECTED if name in item.fields}
        if self.expected is not Any and item.expected is not None:
            name = next(name for name in _EXPECTED if name in fields)
            fields[name] = _dumped(typed.expected)
        id = item_id(fields) if item.id == item_id(item.fields) else item.id
        return Item(id=id, fields=fields, tags=item.tags, split=item.split)

    def typed(self, item: Item) -> TypedItem[Any, Any]:
        """The item's input and expected output as their types.

        Raises
        ------
        DatasetError
            It does not fit them.
        """
        given: Any = item.inputs
        if not _has_fields(self.input) and self.input is not Any:
            if "input" not in given:
                raise DatasetError(f"no field 'input', which is to be a {_name(self.input)}")
            others = [name for name in given if name != "input"]
            if others:
                raise DatasetError(f"field {others[0]!r} has no place beside an input that is a {_name(self.input)}")
            given = given["input"]
        expected = item.expected
        return TypedItem(
            item.id,
            given if self.input is Any else _converted(given, self.input, ""),
            expected if expected is None or self.expected is Any else _converted(expected, self.expected, "expected"),
            item.tags,
            item.split,
        )

    def schema(self, name: str) -> dict[str, Any] | None:
        """The JSON schema of a list of such items; ``None`` where the type of the input is not known."""
        if self.input is Any:
            return None
        inputs, definitions = _schema(self.input)
        expected, more = ({}, {}) if self.expected is Any else _schema(self.expected)
        if not _has_fields(self.input):
            inputs = {"properties": {"input": inputs}, "required": ["input"]}
        fields = {
            "properties": {**inputs.get("properties", {}), "expected": {"anyOf": [expected, {"type": "null"}]}},
            "required": inputs.get("required", []),
        }
        found = around(name, fields, closed=True)
        return {**found, "$defs": {**definitions, **more}} if definitions or more else found


def check_types(given: Any) -> Types:
    """What stands in brackets behind ``Dataset``.

    Raises
    ------
    TypeError
        They are not two; that of the input has a field that an item has beside it.
    """
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError("Dataset takes two types, of the input and of what is expected: tk.Dataset[Question, str]")
    taken = sorted(_names(given[0]) & {"id", "tags", "split", *_EXPECTED})
    if taken:
        raise TypeError(f"{_name(given[0])} has a field {taken[0]!r}, which an item has beside its input; rename it")
    return Types(*given)


def _is_pydantic(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_json_schema")


def _has_fields(kind: Any) -> bool:
    return bool(_names(kind))


def _names(kind: Any) -> frozenset[str]:
    """The names that a type with fields takes."""
    if _is_pydantic(kind):
        aliases = (each.alias for each in kind.model_fields.values())
        return frozenset((*kind.model_fields, *(alias for alias in aliases if alias)))
    for names in ("__struct_encode_fields__", "__dataclass_fields__", "__annotations__", "_fields"):
        found = getattr(kind, names, None)
        if found and isinstance(kind, type):
            return frozenset(found)
    return frozenset()


def _converted(value: Any, kind: Any, place: str) -> Any:
    if _is_pydantic(kind):
        try:
            return kind.model_validate(value)
        except ValueError as error:  # pydantic's is one
            details = getattr(error, "errors", None)
            first = details()[0] if callable(details) else {"loc": (), "msg": str(error)}
            where = ".".join(map(str, (*([place] if place else []), *first["loc"])))
            raise DatasetError(f"it is no {_name(kind)}: {where + ': ' if where else ''}{first['msg']}") from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{place or 'it'} is no {_name(kind)}: {error}") from error


def _opened(value: Any) -> dict[str, Any] | None:
    """The fields of a model, by the names that it reads them by; ``None`` of what has none."""
    if not isinstance(value, type) and callable(getattr(value, "model_dump", None)):
        dumped = _dumped(value)
        return dumped if isinstance(dumped, dict) else None
    found = mapping_of(value)
    return None if found is None else dict(found)


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return plain(dump(mode="json", by_alias=True))
    return plain(msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value)


def _schema(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A type's schema and the definitions that it refers to."""
    if _is_pydantic(kind):
        whole: dict[str, Any] = kind.model_json_schema()
        return whole, whole.pop("$defs", {})
    (found,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    reference = found.get("$ref")
    if isinstance(reference, str):
        found = definitions[reference.removeprefix("#/$defs/")]
    return dict(found), dict(definitions)


def _name(kind: Any) -> str:
    name: str = getattr(kind, "__name__", None) or repr(kind)
    return name
