"""A journal whose files are gone is closed in the store; one that the store could not close is left to an adopter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.store import Store


@pytest.mark.slow
def test_a_journal_that_the_store_could_not_close_is_left_to_whoever_comes_next(
    keeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @tk.trace
    def ask(question: str) -> str:
        return "mild"

    ask("q")
    assert keeper.ship(20) is None
    name = keeper.journal.name

    def locked(*_: object) -> None:
        raise StoreLocked("the database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "close_journal", locked)
        keeper.close(1.0)
    assert list((keeper.directory / "journal").glob(f"{name}.journal"))
    done = programs.run(
        f"""
        import tracekeeper as tk
        from tracekeeper.tracing import runtime
        tk.configure(directory={str(keeper.directory)!r})
        tk.records()
        print(*(row.state for row in runtime.keeper().store().journal_rows() if row.name == {name!r}))
        """,
        tmp_path,
    )
    assert done.out.split() == ["recovered"], done
    assert not list((keeper.directory / "journal").glob(f"{name}*"))
