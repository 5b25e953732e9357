"""Structured output: the schema that is asked for, and the check of what came."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

from tracekeeper.types import MissingExtraError, PromptError

_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n\s*```\s*\Z", re.DOTALL)


class Invalid(ValueError):
    """What came is not valid; the message says where, in words for the model."""


class Output:
    """What ``output=`` asks for.

    Raises
    ------
    PromptError
        It is neither a pydantic model nor a JSON schema, or no valid one.
    MissingExtraError
        A JSON schema, and jsonschema is not installed.
    """

    def __init__(self, asked: Any) -> None:
        self.model: Any = None
        if isinstance(asked, type) and hasattr(asked, "model_json_schema"):
            self.model = asked
            self.name = asked.__name__
            self.schema: dict[str, Any] = asked.model_json_schema()
        elif isinstance(asked, dict):
            self.schema = asked
            self.name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(asked.get("title") or "output"))[:64]
            self._validator = _validator(asked)
        else:
            raise PromptError(f"output={asked!r}: expected a pydantic model or a JSON schema")

    def read(self, text: str) -> Any:
        """The value in an answer's text. Raises ``Invalid``."""
        fenced = _FENCED.match(text)
        written = fenced.group(1) if fenced else text
        try:
            value = json.loads(written)
        except ValueError as error:
            raise Invalid(f"it is not JSON ({error})") from None
        if self.model is not None:
            try:
                return self.model.model_validate_json(written)
            except ValueError as error:  # pydantic's ValidationError is one
                raise Invalid(_reasons(error)) from None
        wrong = sorted(self._validator.iter_errors(value), key=lambda one: [str(step) for step in one.absolute_path])
        if wrong:
            raise Invalid("; ".join(f"{one.json_path}: {one.message}" for one in wrong[:5]))
        return value

    def plain(self, value: Any) -> Any:
        """What is written on a span: plain data."""
        return value.model_dump(mode="json") if self.model is not None else value

    def instructions(self) -> str:
        """For a model whose provider has no option for it."""
        schema = json.dumps(self.schema, ensure_ascii=False)
        return f"Answer with JSON only, without any other text, valid by this JSON schema:\n{schema}"

    @staticmethod
    def again(reason: Invalid) -> str:
        """What is said of an answer that is not valid."""
        return f"That is not valid: {reason}. Answer again, with nothing but JSON that is valid by the schema."


def _validator(schema: dict[str, Any]) -> Any:
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError as error:
        raise MissingExtraError(
            "output= with a JSON schema needs jsonschema: pip install 'tracekeeper[schema]'"
        ) from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise PromptError(f"output= is no valid JSON schema: {error.json_path}: {error.message}") from None
    return kind(schema)


def _reasons(error: Any) -> str:
    if not hasattr(error, "errors"):
        return str(error)
    found = [f"{'.'.join(map(str, one['loc'])) or 'the value'}: {one['msg']}" for one in error.errors()[:5]]
    return "; ".join(found)
