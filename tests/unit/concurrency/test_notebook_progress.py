"""Progress below the cell of a notebook: one output, written anew in its place; lines wherever there is no notebook."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.concurrency import progress as shown


class Cell:
    """What a notebook shows below a cell, as IPython is asked for it."""

    def __init__(self) -> None:
        self.outputs: list[list[Any]] = []
        """Each with all that it was."""
        self.fails = 0
        """The number of the update that raises; 0: none."""

    def display(self, thing: Any, *, display_id: bool) -> Any:
        assert display_id
        output = [thing._repr_html_()]
        self.outputs.append(output)

        def update(thing: Any) -> None:
            if len(output) == self.fails:
                raise RuntimeError("the browser has gone")
            output.append(thing._repr_html_())

        return types.SimpleNamespace(update=update)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    as_ipython(monkeypatch, types.SimpleNamespace(kernel=object()), made.display)
    monkeypatch.setattr(shown, "IN_NOTEBOOK", 0.0)
    return made


def as_ipython(monkeypatch: pytest.MonkeyPatch, shell: Any, display: Callable[..., Any]) -> None:
    ipython, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    inner.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)


def test_one_output_is_written_anew_in_its_place(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    tk.parallel_map(lambda n: 1 / n, range(4), concurrency=1, progress="1 < 2")
    [output] = cell.outputs
    assert len(output) == 6, "the first look, each of the four, the last"
    assert [re.findall(r'value="(\d)" max="4"', html) for html in output] == [["0"], ["1"], ["2"], ["3"], ["4"], ["4"]]
    assert "<code>1 &lt; 2 4/4, 1 error" in output[-1]
    assert capsys.readouterr().err == ""


def test_an_evaluation_shows_its_running_means(cell: Cell, keeper: object, capsys: pytest.CaptureFixture[str]) -> None:
    def right(output: str, expected: str) -> bool:
        return output == expected

    items = [{"n": n, "expected": str(min(n, 2))} for n in range(4)]
    tk.evaluate(items, lambda n: str(n), metrics=[right], name="numbers", progress=True)
    [output] = cell.outputs
    assert re.search(r'value="4" max="4".*<code>numbers 4/4, right 0\.75, [\d,.]+/s, [\d.]+ s</code>', output[-1])
    assert capsys.readouterr().err == ""


def test_of_what_has_no_length_the_bar_has_no_share(cell: Cell) -> None:
    tk.parallel_map(abs, iter(range(3)), progress=True)
    assert '<progress style="width: 16em">' in cell.outputs[0][-1]


def test_a_browser_that_has_gone_ends_the_showing_and_not_the_work(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    cell.fails = 2
    assert len(tk.parallel_map(abs, range(5), concurrency=1, progress=True)) == 5
    assert len(cell.outputs[0]) == 2
    assert capsys.readouterr().err == ""


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no display")


@pytest.mark.parametrize(
    ("shell", "display"),
    [(None, broken), (types.SimpleNamespace(), broken), (types.SimpleNamespace(kernel=object()), broken)],
    ids=["no shell", "the terminal's", "a display that fails"],
)
def test_where_no_cell_can_show_it_there_are_lines(
    shell: Any, display: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_ipython(monkeypatch, shell, display)
    tk.parallel_map(abs, range(3), progress="numbers")
    assert re.fullmatch(r"numbers 3/3, [\d.]+ s\n", capsys.readouterr().err)


def test_nothing_of_jupyter_is_loaded_for_it(tmp_path: Path) -> None:
    done = programs.run(
        """
        import sys
        import tracekeeper as tk
        tk.parallel_map(abs, range(3), progress="numbers")
        print([name for name in sys.modules if name.partition(".")[0] in ("IPython", "ipykernel", "jupyter_client")])
        """,
        tmp_path,
    )
    assert (done.code, done.out.strip()) == (0, "[]")
    assert done.err.startswith("numbers 3/3, ")


CELL = """
import time
import tracekeeper as tk

def right(output, expected):
    return output == expected

def task(n):
    time.sleep(0.01)
    return str(n)

items = [{"n": n, "expected": str(n)} for n in range(100)]
experiment = AWAIT(items, task, metrics=[right], name="real", concurrency=1, progress=True)
print(experiment.complete)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("door", ["tk.evaluate", "await tk.aevaluate"])
def test_a_real_kernel_updates_one_display_in_place(door: str, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(tmp_path), env=programs.environment(), startup_timeout=60)
    messages: list[dict[str, Any]] = []
    try:
        reply = client.execute_interactive(CELL.replace("AWAIT", door), timeout=60, output_hook=messages.append)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in messages]
    assert kinds.count("display_data") == 1
    assert kinds.count("update_display_data") >= 2, kinds
    shows = [one["content"] for one in messages if one["msg_type"] in ("display_data", "update_display_data")]
    assert len({show["transient"]["display_id"] for show in shows}) == 1, "in its place"
    done = [int(re.findall(r'value="(\d+)" max="100"', show["data"]["text/html"])[0]) for show in shows]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 100)
    assert "right 1.00" in shows[-1]["data"]["text/plain"]
    streams = {one["content"]["name"]: one["content"]["text"] for one in messages if one["msg_type"] == "stream"}
    assert streams == {"stdout": "True\n"}, "no lines besides"
