"""Images of a prompt: a path, bytes or a URL as a part of a message; what cannot be one is said before the call."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from tracekeeper.types import PromptError

_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def part(image: Any) -> dict[str, Any]:
    """The part of a message for one image, as Chat Completions has it.

    Raises
    ------
    PromptError
        There is no such file, it cannot be read, or it is no PNG, JPEG, GIF or WebP.

    Example
    -------
    >>> part("https://example.org/map.png")
    {'type': 'image_url', 'image_url': {'url': 'https://example.org/map.png'}}
    """
    if isinstance(image, str) and image.startswith(("http://", "https://", "data:image/")):
        url = image
    elif isinstance(image, bytes | bytearray | memoryview):
        url = _inline(bytes(image), f"an image of {len(image)} bytes")
    elif isinstance(image, str | os.PathLike):
        url = _inline(_contents(image), f"image {os.fspath(image)!r}")
    else:
        raise PromptError(f"an image is a path, bytes or a URL, not {type(image).__name__}")
    return {"type": "image_url", "image_url": {"url": url}}


def _contents(path: Any) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except FileNotFoundError:
        raise PromptError(f"image {os.fspath(path)!r}: there is no such file") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise PromptError(f"image {os.fspath(path)!r} cannot be read: {error}") from None


def _inline(data: bytes, what: str) -> str:
    return f"data:{_media_type(data, what)};base64,{base64.b64encode(data).decode()}"


def _media_type(data: bytes, what: str) -> str:
    for start, kind in _SIGNATURES:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise PromptError(f"{what} is no PNG, JPEG, GIF or WebP")


def split(url: str) -> tuple[str, str] | None:
    """Media type and base64 text of an image that is sent along; ``None`` for one that the provider fetches."""
    if not url.startswith("data:"):
        return None
    head, _, data = url.partition(",")
    return head.removeprefix("data:").partition(";")[0], data


def shown(url: str) -> dict[str, Any]:
    """An image as a span keeps it: its address, or its kind, size and digest."""
    inline = split(url)
    if inline is None:
        return {"type": "image", "url": url}
    kind, data = inline
    digest = hashlib.sha256(data.encode()).hexdigest()[:16]
    return {"type": "image", "media_type": kind, "bytes": len(data) * 3 // 4 - data[-2:].count("="), "digest": digest}
