"""What a model is asked: checked and brought into one shape, Chat Completions' messages, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tracekeeper.lm import images
from tracekeeper.lm.output import Output
from tracekeeper.types import PromptError

ROLES = ("system", "developer", "user", "assistant", "tool")


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One question. ``options`` are passed to the provider as they are."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    output: Output | None = None
    options: dict[str, Any] = {}

    def followed_by(self, *messages: dict[str, Any]) -> Prompt:
        """The conversation, longer by these."""
        return msgspec.structs.replace(self, messages=(*self.messages, *messages))

    def shown(self) -> list[dict[str, Any]]:
        """As a span keeps it: without the bytes of images."""
        return [
            {**message, "content": [_shown(part) for part in content]}
            if isinstance(content := message.get("content"), list)
            else message
            for message in self.messages
        ]

    def text(self) -> str:
        """The messages as one text, for a model that takes nothing else: alone the user's words as they are."""
        said = [(message["role"], _text_of(message.get("content"))) for message in self.messages]
        return said[0][1] if len(said) == 1 else "\n\n".join(f"{role}: {text}" for role, text in said)


def prompt_of(
    given: str | Iterable[Mapping[str, Any]],
    *,
    system: str | None,
    images: Sequence[Any],
    tools: Sequence[Mapping[str, Any]],
    output: Output | None,
    options: Mapping[str, Any],
) -> Prompt:
    """The question that was given.

    Raises
    ------
    PromptError
        Something of it cannot be sent; the message names it.
    """
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else _messages(given)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if images:
        _add_images(messages, images)
    return Prompt(
        messages=tuple(messages),
        tools=tuple(_tool(tool, position) for position, tool in enumerate(tools)),
        output=output,
        options=dict(options),
    )


def _messages(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise PromptError(f"a prompt is a text or a list of messages, not {type(given).__name__}")
    found = [_message(message, position) for position, message in enumerate(given)]
    if not found:
        raise PromptError("the list of messages is empty")
    return found


def _message(given: Any, position: int) -> dict[str, Any]:
    if not isinstance(given, Mapping) or given.get("role") not in ROLES:
        role = given.get("role") if isinstance(given, Mapping) else None
        what = f"has role {role!r}" if isinstance(given, Mapping) else f"is {type(given).__name__}"
        raise PromptError(
            f"message {position} {what}; a message is {{'role': …, 'content': …}} with one of {', '.join(ROLES)}"
        )
    return dict(given)


def _add_images(messages: list[dict[str, Any]], given: Sequence[Any]) -> None:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise PromptError("images= takes a list: images=[path]")
    for position in range(len(messages) - 1, -1, -1):
        if messages[position]["role"] == "user":
            content = messages[position].get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
            messages[position] = {
                **messages[position],
                "content": [*(part for part in parts if part != _EMPTY), *map(images.part, given)],
            }
            return
    raise PromptError("images= belong to a message of the user, and there is none")


_EMPTY = {"type": "text", "text": ""}


def _tool(given: Any, position: int) -> dict[str, Any]:
    """As Chat Completions has it; ``{"name": …, "description": …, "parameters": …}`` alone is enough."""
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise PromptError(
            f"tool {position} is none: expected {{'name': …, 'description': …, 'parameters': a JSON schema}}"
        )
    named = {name: value for name, value in function.items() if name != "type"}
    return {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, **named}}


def _shown(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, Mapping) else given
        return images.shown(url) if isinstance(url, str) else part
    return part


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or () if isinstance(part, Mapping))
