"""Objects that exist once: handles on something in this process, such as a span, a keeper or an open file.

A program may copy a data structure that a handle has got into (``copy.deepcopy``, ``dataclasses.asdict``, the state of
an agent framework). The copy then refers to the very same handle, as it would to a function or a class: a second span
would be one that nobody began, and a second open file one that closes the first one's descriptor.
"""

from __future__ import annotations

from typing import Any, Self


class Single:
    """A base for what a copy refers to instead of copying it.

    Example
    -------
    >>> import copy
    >>> handle = Single()
    >>> copy.copy(handle) is handle, copy.deepcopy([handle])[0] is handle
    (True, True)
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
