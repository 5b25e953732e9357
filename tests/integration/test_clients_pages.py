"""The programs of the page about clients leave the spans that the page shows, against a local server."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs
from tests.support.clients import OFFLINE
from tests.support.spans import stored
from tests.support.wire import WireServer, serving
from tests.support.wire_bedrock import Bedrock
from tests.support.wire_google import Google
from tests.support.wire_ollama import Ollama

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
SECTION = re.compile(r"^## ([^\n]+)\n\n```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL | re.MULTILINE)
SECTIONS = SECTION.findall(PAGE.read_text(encoding="utf-8"))
NEEDS = re.compile(r"^(?:from|import) ([\w.]+)", re.MULTILINE)
COLUMNS = (
    "SELECT span_id, parent_id, name, kind, status, input_tokens, output_tokens, usage, output "
    "FROM span LEFT JOIN payload USING (id) ORDER BY started_at, span.id"
)


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving(Ollama(), Google(), Bedrock()) as started:
        yield started


def environment(server: WireServer) -> dict[str, str]:
    """What makes the libraries ask the local server: their own settings."""
    url = server.url
    return {
        **{name: value for name, value in OFFLINE.items() if value},
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "OLLAMA_HOST": url,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": "none",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }


def tree(directory: Path) -> list[str]:
    """Every span that a program left in its directory, as the page shows it."""
    ended = programs.run("import tracekeeper as tk; tk.flush(timeout=60)", directory, timeout=120)
    assert ended.code == 0, ended.err
    rows: list[Any] = stored(directory / ".tracekeeper", COLUMNS)
    depths: dict[str, int] = {}
    for span_id, parent_id, *_ in rows:
        depths[span_id] = depths.get(parent_id, -1) + 1
    below: dict[str, list[Any]] = {}
    for row in rows:
        below.setdefault(row[1] if row[1] in depths else "", []).append(row)

    def lines(parent: str) -> Iterator[str]:
        for row in below.get(parent, []):
            yield "  " * depths[row[0]] + described(*row[2:])
            yield from lines(row[0])

    return list(lines(""))


def described(
    name: str, kind: str, status: str, read: int | None, written: int | None, usage: str | None, output: str | None
) -> str:
    estimated = "~" if usage and json.loads(usage).get("estimated") else ""
    tokens = f", {estimated}{'?' if read is None else read} + {written} tokens" if written is not None else ""
    said = json.loads(output) if output is not None else None
    text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())
    return f"{name} ({kind}) {status}{tokens}" + (f": {text}" if said is not None and len(text) < 60 else "")


def test_every_section_has_a_program_and_what_it_leaves() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _, _ in SECTIONS] == headings
    assert len(headings) == 13


@pytest.mark.parametrize(("code", "shown"), [one[1:] for one in SECTIONS], ids=[one[0] for one in SECTIONS])
def test_a_program_leaves_the_spans_that_the_page_shows(
    code: str, shown: str, tmp_path: Path, server: WireServer
) -> None:
    for module in NEEDS.findall(code):
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            pytest.skip(f"{module} is not installed; see scripts/clients")
    ended = programs.run(code, tmp_path, timeout=120, **environment(server))
    assert ended.code == 0, ended.err
    assert tree(tmp_path) == shown.rstrip().splitlines()


if __name__ == "__main__":  # print what each program leaves, for the page
    import sys
    import tempfile

    with serving(Ollama(), Google(), Bedrock()) as made:
        for title, code in re.findall(
            r"^## ([^\n]+)\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            if len(sys.argv) > 1 and title not in sys.argv[1:]:
                continue
            with tempfile.TemporaryDirectory() as place:
                done = programs.run(code, Path(place), timeout=120, **environment(made))
                print(f"## {title}", *(tree(Path(place)) or [done.err[-2000:]]), sep="\n")
