"""What the README shows works as printed: its program in an empty folder, and the commands below it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.programs import Finished, environment, run

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), re.M | re.S)


def commands(readme: str) -> list[list[str]]:
    """The words of each shell command, without comments."""
    lines = [line for block in blocks(readme, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def tracekeeper(words: list[str], folder: Path) -> Finished:
    done = subprocess.run(
        [sys.executable, "-m", "tracekeeper", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, 0)


@pytest.mark.parametrize("readme", READMES)
def test_the_first_program_runs_in_an_empty_folder(readme: str, tmp_path: Path) -> None:
    done = run(blocks(readme, "python")[0], tmp_path, COLUMNS="120")  # of a terminal
    assert (done.code, done.err) == (0, "")
    for cell in ("It is mild", "overlap_groundedness: n = 1 = 1 scored", "cites_source: n = 1 = 1 scored"):
        assert cell in done.out
    assert {path.name for path in tmp_path.iterdir()} == {"program_0.py", ".tracekeeper"}


def test_both_languages_show_the_same_program_and_commands() -> None:
    english, chinese = (re.sub(r"#.*", "", blocks(readme, "python")[0]) for readme in READMES)
    assert english == chinese
    assert commands("README.zh-CN.md")[:2] == commands("README.md")[:2] == [["make", "demo"], ["make", "test"]]


def test_every_make_target_exists() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    shown = [words[1] for readme in READMES for words in commands(readme) if words[0] == "make"]
    assert set(shown) <= set(targets)


def test_the_commands_work_on_what_the_program_kept(tmp_path: Path) -> None:
    run(blocks("README.md", "python")[0], tmp_path)
    first = {"question": "How is it?", "answer": "It is mild.", "documents": ["It is mild."]}
    rows = [first, {"question": "And?", "answer": "Cold."}]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "my_metrics.py").write_text(blocks("README.md", "python")[1])
    shown = [words[1:] for words in commands("README.md") if words[0] == "tracekeeper"]
    assert [words[0] for words in shown] == ["records", "worker", "status", "import", "score"]
    shown[1].append("--once")
    shown[2].remove("--watch")
    for words in shown:
        done = tracekeeper(words, tmp_path)
        assert done.code == 0, (words, done.out, done.err)
    assert "2 = 1 scored + 1 skipped" in done.out
    [name] = re.findall(r"score\.(\w+)", " ".join(shown[0]))
    assert tracekeeper(["records", f"score.{name} is present", "--json"], tmp_path).out.count('"trace_id"') == 2


@pytest.mark.parametrize("readme", READMES)
def test_every_link_leads_somewhere(readme: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / readme).read_text(encoding="utf-8")):
        if "://" not in link:
            assert (ROOT / link).exists(), link
