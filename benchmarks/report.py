"""Tables of results beside their targets."""

from __future__ import annotations

from collections.abc import Sequence


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table, so that a result can be pasted."""
    print(f"### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join("---" for _ in columns) + " |")
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print()


def verdict(value: float, target: float, *, at_most: bool = True) -> str:
    """``met`` or ``MISSED`` and by how much."""
    met = value <= target if at_most else value >= target
    return "met" if met else f"MISSED ({value:.3g} against {target:.3g})"
