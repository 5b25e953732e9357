"""Metrics that another process can import."""

from __future__ import annotations

from typing import Any

import tracekeeper as tk


def short(output: str) -> bool:
    return len(output) < 20


def long(output: str) -> bool:
    return not short(output)


def pair(output: str) -> dict[str, Any]:
    return {"length": len(output), "words": len(output.split())}


both = tk.metric(pair, names=["length", "words"])


def polite(turns: list[dict[str, Any]]) -> bool:
    return all("please" in str(turn["input"]) for turn in turns)


def grounded(output: str, context: list[Any]) -> bool:
    return any(str(each) in output for each in context)
