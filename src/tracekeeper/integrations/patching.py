"""Replacing a library's functions by traced ones, and putting them back.

A replaced function keeps its signature, its nature (``inspect`` sees an ``async def`` as one) and its place as a
method; wrapt does that. What is ours alone: of several replacements either all are made or none, and undoing them is
safe even when somebody else has wrapped the same function in the meantime: then ours stays where it is and only
passes on.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import wrapt

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""``wrapper(original, instance, args, kwargs)``, as of wrapt; ``original`` is bound already."""

_changing = threading.Lock()


class Patches:
    """The replacements that one integration makes. Not to be used from several threads before ``undo``."""

    def __init__(self) -> None:
        self.active = True
        self._made: list[tuple[Any, str, Any, Any, bool]] = []

    def wrap(self, module: str, path: str, wrapper: Wrapper) -> None:
        """Replace ``module.path`` (``"Class.method"`` or ``"function"``) by ``wrapper`` around it.

        Raises
        ------
        ImportError, AttributeError
            There is no such thing in this version of the library.
        """
        owner: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        inherited = name not in vars(owner)
        original = getattr(owner, name) if inherited else vars(owner)[name]
        replacement = wrapt.FunctionWrapper(original, wrapper, enabled=lambda: self.active)
        with _changing:
            setattr(owner, name, replacement)
            self._made.append((owner, name, original, replacement, inherited))

    def wrap_if_there(self, module: str, path: str, wrapper: Wrapper) -> bool:
        """The same for what only some versions of the library have; whether it was there."""
        try:
            self.wrap(module, path, wrapper)
        except (ImportError, AttributeError):
            return False
        return True

    def undo(self) -> None:
        """Put everything back. What others have wrapped once more passes calls on from here on."""
        self.active = False
        with _changing:
            while self._made:
                owner, name, original, replacement, inherited = self._made.pop()
                if vars(owner).get(name) is not replacement:
                    continue
                if inherited:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)
