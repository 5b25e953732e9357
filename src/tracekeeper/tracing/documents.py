"""What a retriever returned, as the documents that metrics judge.

A document is text, or an object with ``content`` (or ``page_content`` or ``text``), as LangChain, LlamaIndex, Haystack
and most programs of one's own have it, alone or in a pair with its score.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any

_TEXT_FIELDS = ("content", "page_content", "text", "document", "chunk")
_MORE_FIELDS = ("id", "title", "source", "score", "metadata")
_CONTAINERS = (list, tuple, set, frozenset, deque)
_LIMIT = 10_000

collecting: ContextVar[list[Any] | None] = ContextVar("tracekeeper_documents", default=None)
"""Where a guard around a call gathers what is retrieved below it, whether or not the call is sampled."""


def found_in(output: Any) -> list[Any] | None:
    """The documents in a retriever's output as values to encode; ``None`` when it does not look like documents.

    Example
    -------
    >>> found_in([("mild", 0.9), {"text": "wet", "id": 3}])
    [{'content': 'mild', 'score': 0.9}, {'content': 'wet', 'id': 3}]
    """
    if isinstance(output, Mapping):
        for name in ("documents", "docs", "results", "matches", "chunks", "contexts", "context"):
            if name in output:
                return found_in(output[name])
        one = _document(output)
        return None if one is None else [one]
    if isinstance(output, str):
        return [output]
    if not issubclass(type(output), _CONTAINERS):
        nodes = getattr(output, "documents", None)
        return found_in(nodes) if isinstance(nodes, list | tuple) else None
    documents = [_document(item) for item in islice(output, _LIMIT)]
    return None if any(document is None for document in documents) else documents


def _document(item: Any) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], int | float):
        document = _document(item[0])
        if document is None:
            return None
        return {**(document if isinstance(document, dict) else {"content": document}), "score": item[1]}
    node = _get(item, "node")
    if node is not None and _get(item, "content") is None:
        document = _document(node)
        score = _get(item, "score")
        return {**document, "score": score} if isinstance(document, dict) and score is not None else document
    for name in _TEXT_FIELDS:
        content = _get(item, name)
        if isinstance(content, str):
            more = {field: value for field in _MORE_FIELDS if (value := _get(item, field)) is not None}
            return {"content": content, **{key: value for key, value in more.items() if not callable(value)}}
    return None


def _get(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
