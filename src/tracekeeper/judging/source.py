"""A function's source as tokens: what it does, without how it is laid out.

Read from the file rather than from bytecode or a syntax tree, whose forms differ between Python versions.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
import types
from collections.abc import Iterator
from functools import lru_cache

_LAYOUT = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER})


def source_text(function: types.FunctionType) -> str | None:
    """The tokens of a function's source without comments, layout, docstring and decorators; ``None`` without source."""
    code = function.__code__
    try:
        lines, _ = inspect.findsource(code)
        text = "".join(lines)
        candidates = [node for node in _functions(text) if _starts(node) == code.co_firstlineno and _named(node, code)]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    if len(candidates) > 1:
        candidates = [node for node in candidates if _holds(node, code)]
    if len(candidates) != 1:
        return None
    try:
        return _tokens(text, candidates[0])
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None


_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@lru_cache(maxsize=8)
def _functions(text: str) -> tuple[_Node, ...]:
    return tuple(node for node in ast.walk(_parsed(text)) if isinstance(node, _Node))


def _parsed(text: str) -> ast.Module:
    for _ in range(3):
        try:
            return ast.parse(text)
        except SystemError:  # python/cpython#106905, until 3.11.7: two threads at it at once disturb each other
            continue
    return ast.parse(text)


def _starts(node: _Node) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _named(node: _Node, code: types.CodeType) -> bool:
    return code.co_name == ("<lambda>" if isinstance(node, ast.Lambda) else node.name)


def _holds(node: _Node, code: types.CodeType) -> bool:
    """Whether this is the node of the code, of several lambdas in one line: its body must span the code's positions."""
    if not isinstance(node, ast.Lambda):
        return True
    body = node.body
    places = [
        (line, column, end, last)
        for line, end, column, last in code.co_positions()
        # The instructions that only enter or leave the function have no width.
        if line and end and column is not None and last is not None and (line, column) != (end, last)
    ]
    return bool(places) and all(
        (body.lineno, body.col_offset) <= (line, column)
        and (end, last) <= (body.end_lineno or 0, body.end_col_offset or 0)
        for line, column, end, last in places
    )


def _tokens(text: str, node: _Node) -> str:
    lines = text.splitlines(keepends=True)
    docstring = None if isinstance(node, ast.Lambda) else _docstring(node)
    first, last = node.lineno, node.end_lineno or node.lineno
    # Columns of the tree are in UTF-8 bytes, those of tokens in characters.
    start = (first, len(lines[first - 1].encode()[: node.col_offset].decode()))
    end = (last, len(lines[last - 1].encode()[: node.end_col_offset].decode()))
    piece = lines[first - 1 : last]
    piece[-1] = piece[-1][: end[1]]
    piece[0] = piece[0][start[1] :]
    if isinstance(node, ast.Lambda):
        piece = ["(", *piece, ")"]
    piece.append("\n")
    kept = []
    for kind, token, line in _merged(piece):
        if (
            docstring
            and docstring[0] <= line + first - 1 <= docstring[1]
            and kind in (tokenize.STRING, tokenize.NEWLINE)
        ):
            continue
        kept.append({tokenize.INDENT: "⇥", tokenize.DEDENT: "⇤", tokenize.NEWLINE: "↵"}.get(kind, token))
    return " ".join(kept)


def _merged(piece: list[str]) -> Iterator[tuple[int, str, int]]:
    """Tokens with their line; an f-string is one token, as it was before Python 3.12."""
    text = "".join(piece)
    lines = text.splitlines(keepends=True)
    began: tuple[int, int] | None = None
    depth = 0
    opening = getattr(tokenize, "FSTRING_START", -1)
    closing = getattr(tokenize, "FSTRING_END", -1)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == opening:
            began = began or token.start
            depth += 1
        elif token.type == closing:
            depth -= 1
            if depth == 0 and began is not None:
                yield tokenize.STRING, _between(lines, began, token.end), began[0]
                began = None
        elif depth == 0 and token.type not in _LAYOUT:
            yield token.type, token.string, token.start[0]


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    return "".join([lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int] | None:
    """The lines of the docstring, when it stands on lines of its own."""
    first = node.body[0]
    if len(node.body) == 1 or not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return None
    end = first.end_lineno or first.lineno
    alone = node.lineno < first.lineno and end < node.body[1].lineno
    return (first.lineno, end) if isinstance(first.value.value, str) and alone else None
