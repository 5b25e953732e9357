"""``tk.instrument``: lazy, idempotent, reversible, and never a reason for a call to fail."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.integrations import known, registry
from tracekeeper.integrations.known import Integration
from tracekeeper.integrations.patching import Patches

LIBRARY = """
def answer(question):
    return "mild"
class Client:
    def ask(self, question): return "dry"
    async def aask(self, question): return "wet"
class Sub(Client):
    pass
"""


class Room:
    """A module of the integrations' package."""

    def __init__(self, library: str, path: str = "answer") -> None:
        self.library = library
        self.path = path
        self.installs = 0
        self.fails: BaseException | None = None

    def install(self) -> Any:
        self.installs += 1
        patches = Patches()
        patches.wrap(self.library, self.path, lambda original, instance, args, kwargs: "traced " + original(*args))
        if self.fails is not None:
            patches.undo()
            raise self.fails
        return patches.undo


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Room]]:
    """A library that is installed and not imported, and an integration of it."""
    name = f"weather_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    room = Room(name)
    monkeypatch.setitem(sys.modules, "tracekeeper.integrations.weather_room", room)  # type: ignore[arg-type]
    monkeypatch.setitem(known.KNOWN, "weather", Integration("weather", "weather_room", name))
    yield name, room
    registry.forget()
    registry._states.pop("weather", None)
    sys.modules.pop(name, None)


def test_a_library_is_not_imported_and_is_traced_once_the_program_imports_it(library: tuple[str, Room]) -> None:
    name, room = library
    [shown] = tk.instrument("weather")
    assert (shown.state, name in sys.modules, room.installs) == ("waiting", False, 0)
    module = importlib.import_module(name)
    assert module.answer("?") == "traced mild"
    assert [one.state for one in tk.instrumented() if one.name == "weather"] == ["active"]


def test_a_library_that_is_imported_is_traced_at_once_and_only_once(library: tuple[str, Room]) -> None:
    name, room = library
    module = importlib.import_module(name)
    assert {one.state for _ in range(3) for one in tk.instrument("weather")} == {"active"}
    assert module.answer("?") == "traced mild"
    assert room.installs == 1


def test_it_can_be_put_back_and_done_again(library: tuple[str, Room]) -> None:
    module = importlib.import_module(library[0])
    before = module.answer
    for _ in range(3):
        tk.instrument("weather")
        assert module.answer("?") == "traced mild"
        tk.uninstrument("weather")
        assert module.answer is before
    assert [one.state for one in tk.instrumented() if one.name == "weather"] == ["off"]


def test_uninstrumented_before_its_import_a_library_stays_as_it_is(library: tuple[str, Room]) -> None:
    tk.instrument("weather")
    tk.uninstrument("weather")
    assert importlib.import_module(library[0]).answer("?") == "mild"


def test_what_others_wrapped_meanwhile_keeps_working_after_it_was_put_back(library: tuple[str, Room]) -> None:
    module = importlib.import_module(library[0])
    tk.instrument("weather")
    ours = module.answer
    module.answer = lambda question: "theirs around " + ours(question)
    tk.uninstrument("weather")
    assert module.answer("?") == "theirs around mild"


def test_a_method_that_was_inherited_is_inherited_again(library: tuple[str, Room]) -> None:
    name, room = library
    room.path = "Sub.ask"
    module = importlib.import_module(name)
    tk.instrument("weather")
    assert (module.Sub().ask("?"), module.Client().ask("?")) == ("traced dry", "dry")
    tk.uninstrument("weather")
    assert "ask" not in vars(module.Sub)
    assert module.Sub().ask("?") == "dry"


def test_what_cannot_be_traced_costs_one_line_and_no_call(
    library: tuple[str, Room], caplog: pytest.LogCaptureFixture
) -> None:
    name, room = library
    room.fails = AttributeError("there is no Client.ask in this version")
    tk.instrument("weather")
    with caplog.at_level(logging.INFO, "tracekeeper"):
        module = importlib.import_module(name)
    assert module.answer("?") == "mild"
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "weather is not traced: AttributeError: there is no Client.ask in this version"
    assert [one.state for one in tk.instrumented() if one.name == "weather"] == ["failed"]


def test_a_library_that_is_not_installed_is_said_when_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(known.KNOWN, "absent", Integration("absent", "absent_room", "no_such_library_anywhere"))
    [shown] = tk.instrument("absent")
    assert shown.state == "not installed"
    assert [record.getMessage() for record in caplog.records] == [
        "absent is not traced: no_such_library_anywhere is not installed"
    ]
    caplog.clear()
    registry._states.pop("absent")
    monkeypatch.setattr(registry, "KNOWN", {"absent": known.KNOWN["absent"]})
    tk.instrument()
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]
    registry._states.pop("absent")


def test_a_broken_library_raises_its_own_error_and_nothing_of_ours(library: tuple[str, Room], tmp_path: Path) -> None:
    name, room = library
    (tmp_path / f"{name}.py").write_text("raise ImportError('broken')")
    importlib.invalidate_caches()
    tk.instrument("weather")
    with pytest.raises(ImportError, match=r"^broken$"):
        importlib.import_module(name)
    assert room.installs == 0


def test_a_mistyped_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(tk.ConfigurationError, match=r"did you mean .openai"):
        tk.instrument("opnai")


def test_a_replaced_method_keeps_its_nature_and_signature(library: tuple[str, Room]) -> None:
    import inspect

    name, _ = library
    module = importlib.import_module(name)
    patches = Patches()
    patches.wrap(name, "Client.aask", lambda original, instance, args, kwargs: original(*args, **kwargs))
    assert inspect.iscoroutinefunction(module.Client.aask)
    assert str(inspect.signature(module.Client.aask)) == "(self, question)"
    assert isinstance(module.Client().aask, types.MethodType)
    patches.undo()


def test_instrumenting_everything_imports_no_library() -> None:
    code = (
        "import sys, tracekeeper as tk; rows = tk.instrument();"
        "print([row.name for row in rows if row.state in ('active', 'failed') and row.name != 'threads'],"
        "[m for m in ('openai', 'anthropic', 'litellm', 'pydantic', 'httpx', 'sqlalchemy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[] []"


def test_a_namespace_that_others_share_is_no_sign_that_a_library_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shared_namespace" / "theirs").mkdir(parents=True)
    (tmp_path / "shared_namespace" / "theirs" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for part, state in (("ours", "not installed"), ("theirs", "waiting")):
        integration = Integration("absent", "absent_room", f"shared_namespace.{part}.models", "no-such-distribution")
        monkeypatch.setitem(known.KNOWN, "absent", integration)
        [shown] = tk.instrument("absent")
        registry._states.pop("absent")
        assert shown.state == state
