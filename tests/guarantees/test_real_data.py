"""Real data end to end: 4,507 questions and answers are imported by the command, and every one gets its score.

The data lies beside the checkout (``../shared/data``); where it does not, the test says so and is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import programs

HALUEVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "halueval" / "general_data.json"


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracekeeper", *arguments],
        cwd=directory,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.counts
@pytest.mark.skipif(not HALUEVAL.exists(), reason="the HaluEval data is not beside this checkout")
def test_every_record_of_halueval_is_imported_and_scored(tmp_path: Path) -> None:
    imported = command(tmp_path, "import", str(HALUEVAL), "--input", "user_query", "--output", "chatgpt_response")
    assert imported.returncode == 0, imported.stderr
    scored = command(tmp_path, "score", "--metric", "OverlapAnswerRelevance", "--metric", "Length")
    print(scored.stdout)
    assert scored.returncode == 0, scored.stderr
    status = json.loads(command(tmp_path, "status", "--json").stdout)
    assert '"spans": 4507' in json.dumps(status)
    [row] = json.loads(command(tmp_path, "leaderboard", "--json").stdout)
    assert row["records"] == row["length.n"] == row["length.scored"] == row["overlap_answer_relevance.n"] == 4507
    assert row["overlap_answer_relevance.scored"] + row["overlap_answer_relevance.skipped"] == 4507
