"""The programs of the page on alerts, run as they are written."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

from tracekeeper.scoring.alerts.webhooks import sign

PAGE = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_of_the_page_runs(number: int, tmp_path: Path) -> None:
    finished = programs.run(PROGRAMS[number], tmp_path)
    assert finished.code == 0, finished.err
    if "tk.alerts()" in PROGRAMS[number]:
        assert finished.out.count("unknown") == 5
    if "print(spend)" in PROGRAMS[number]:
        assert "https://hooks.example.com/…" in finished.out
        assert "c2VjcmV0" not in finished.out


@pytest.mark.parametrize("secret", ["whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=", "any text"])
def test_the_check_of_a_signature_that_the_page_shows_is_right(secret: str) -> None:
    names: dict[str, Any] = {}
    exec(next(program for program in PROGRAMS if "def verified" in program), names)
    verified, now, body = names["verified"], int(time.time()), b'{"type":"alert.fired"}'
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign(secret, "msg_1", now, body)
    assert verified(secret, headers, body)
    assert not verified(secret, headers, body + b" ")
    assert not verified("another", headers, body)
    assert not verified(secret, {**headers, "webhook-timestamp": str(now - 1)}, body)
    old = {**headers, "webhook-timestamp": str(now - 600), "webhook-signature": sign(secret, "msg_1", now - 600, body)}
    assert not verified(secret, old, body)
    both = {**headers, "webhook-signature": f"v1,bm8= {headers['webhook-signature']}"}
    assert verified(secret, both, body), "while a secret is being changed there are two"
