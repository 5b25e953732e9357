"""Where the documentation is: in the wheel beside this module, in a checkout at its root."""

from __future__ import annotations

from pathlib import Path

from tracekeeper.types import TracekeeperError

_HERE = Path(__file__).resolve().parent


def find_pages() -> list[Path]:
    """The Markdown files of Tracekeeper's documentation in English, in a fixed order.

    Raises
    ------
    TracekeeperError
        When neither a wheel's copy nor a checkout is there.
    """
    shipped = _HERE / "pages"
    if shipped.is_dir():
        found = sorted(shipped.rglob("*.md"))
    else:
        root = _HERE.parents[2]  # src/tracekeeper/demo -> the checkout
        found = [page for page in (root / "README.md",) if page.is_file()] + sorted((root / "docs").rglob("*.md"))
    english = [page for page in found if not page.stem.endswith(".zh-CN")]
    if not english:
        raise TracekeeperError(
            f"the demo answers from Tracekeeper's documentation, which is neither in {shipped} nor in a checkout "
            "around it; install the wheel again, or run the demo from a clone"
        )
    return english
