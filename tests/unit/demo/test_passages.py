"""Markdown becomes passages of plain sentences, without code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracekeeper.demo import pages
from tracekeeper.demo.passages import passages_of, plain, sentences, split
from tracekeeper.types import TracekeeperError

PAGE = """\
# Guarantees

The **first** paragraph goes
over two lines of text.

## G4 *Settled*

```python
with tk.recording() as recording: this is code and no prose at all
```
- An entry of a list which is long enough.
  It continues here.
- Another entry, see [the limits](limits.md#x).

| name | meaning |
|------|---------|
| `timeout` | seconds that one attempt may take |

### Deeper
Too short.
> A quotation that somebody might look for.
"""


def test_a_passage_is_a_paragraph_an_entry_or_a_row_under_its_headings() -> None:
    assert [(passage.heading, passage.text) for passage in split("guarantees", PAGE)] == [
        ("Guarantees", "The first paragraph goes over two lines of text."),
        ("Guarantees / G4 Settled", "An entry of a list which is long enough. It continues here."),
        ("Guarantees / G4 Settled", "Another entry, see the limits."),
        ("Guarantees / G4 Settled", "timeout: seconds that one attempt may take"),
        ("Guarantees / G4 Settled / Deeper", "A quotation that somebody might look for."),
    ]


def test_names_keep_their_underscores() -> None:
    assert (
        plain("`_exit_` or exit_timeout, __bold__ and *this*, 2 * 3 * 4")
        == "_exit_ or exit_timeout, bold and this, 2 * 3 * 4"
    )


def test_sentences_end_where_the_next_begins() -> None:
    text = 'It takes 2.5 s, e.g. here. Is `kill -9` fatal? No! "Nothing."'
    assert sentences(text) == ["It takes 2.5 s, e.g. here.", "Is `kill -9` fatal?", "No!", '"Nothing."']
    assert sentences("好的。是的。") == ["好的。", "是的。"]


def test_pages_are_found_in_a_checkout_and_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "src" / "tracekeeper" / "demo"
    home.mkdir(parents=True)
    monkeypatch.setattr(pages, "_HERE", home)
    with pytest.raises(TracekeeperError, match="install the wheel again"):
        pages.find_pages()

    (tmp_path / "docs" / "design").mkdir(parents=True)
    for name in ("README.md", "README.zh-CN.md", "docs/limits.md", "docs/design/journal.md"):
        (tmp_path / name).write_text("A sentence that is long enough for a passage.\n")
    assert [page.name for page in pages.find_pages()] == ["README.md", "journal.md", "limits.md"]

    (home / "pages").mkdir()
    (home / "pages" / "guarantees.md").write_text(PAGE)
    assert [page.name for page in pages.find_pages()] == ["guarantees.md"]
    assert len(passages_of(pages.find_pages())) == 5
