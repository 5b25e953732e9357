"""Opening: new, existing, older, newer, foreign, damaged, unwritable, and several processes at once."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import programs

from tracekeeper.store import schema
from tracekeeper.store.connections import Connections
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.store import Store
from tracekeeper.types import StoreError


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def dump(path: Path) -> dict[tuple[str, ...], object]:
    """What a database's schema says. Not its SQL text: a column that was added later is written down differently."""
    made: dict[tuple[str, ...], object] = {}
    connection = sqlite3.connect(path)
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall():
        text = " ".join((sql or "").replace("(", " ( ").replace(")", " ) ").split())
        if kind == "table" and not text.startswith("CREATE VIRTUAL"):
            made["columns", name] = sorted(
                column[1:] for column in connection.execute("SELECT * FROM pragma_table_xinfo(?)", (name,))
            )
            made["keys", name] = sorted(
                key[2:] for key in connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,))
            )
            made["options", name] = "WITHOUT ROWID" in text
        else:
            made[kind, name, table] = text
    made["pragma", "application_id"] = connection.execute("PRAGMA application_id").fetchone()
    connection.close()
    return made


def test_a_new_store_is_private_and_at_the_newest_revision(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "store.db"
    store = Store.open(url(path))
    store.register_journal(name="j", host="h", pid=1, started=0)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == schema.REVISIONS[-1]
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA page_size").scalar() == schema.PAGE_SIZE
    store.close()


def test_migrations_make_what_create_all_makes(tmp_path: Path) -> None:
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    Store.open(url(made)).close()
    migrated.touch()
    connections = Connections(migrated, busy_timeout=1)
    with connections.write() as connection:
        schema.upgrade(connection)
    connections.close()
    assert dump(made) == dump(migrated)


def test_the_revisions_are_those_of_the_migrations() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == schema.REVISIONS


def test_alembic_is_not_imported_for_a_new_or_current_store(tmp_path: Path) -> None:
    done = programs.run(
        """
        import sys
        from tracekeeper.store.store import Store
        Store.open("sqlite:///a.db").close(); Store.open("sqlite:///a.db").close()
        print("alembic" in sys.modules)
        """,
        tmp_path,
    )
    assert done.out.strip() == "False", done.err


NEWEST = schema.REVISIONS[-1]
NEXT = f"{int(NEWEST) + 1:04}"
SECOND = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{NEWEST}"


def upgrade():
    op.add_column("record", sa.Column("colour", sa.Text()))


def downgrade():
    raise NotImplementedError
"""


def test_an_older_store_is_brought_forward_and_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    path = tmp_path / "store.db"
    before = Store.open(url(path))
    before.register_journal(name="old", host="h", pid=1, started=0)
    before.close()
    moved = tmp_path / "100% migrations"
    shutil.copytree(schema.MIGRATIONS, moved, ignore=shutil.ignore_patterns("__pycache__"))
    (moved / "versions" / f"{NEXT}_colour.py").write_text(SECOND)
    monkeypatch.setattr(schema, "MIGRATIONS", moved)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, NEXT))
    store = Store.open(url(path))
    assert [row.name for row in store.journal_rows()] == ["old"]
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(colour) FROM record").scalar() == 0
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == NEXT
    store.close()
    Store.open(url(path)).close()


def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(url(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"newer version.*9999.*{NEWEST}.*Upgrade"):
        Store.open(url(path))
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0002')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store.open(url(path))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and there are quite a few of them\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt is not a SQLite database.*Move"):
        Store.open(url(path))
    assert path.read_text().startswith("these are my notes")


def test_a_damaged_database_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(url(path)).close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (path.stat().st_size - 100))
    with pytest.raises(StoreError, match=r"store\.db is damaged.*recover"):
        Store.open(url(path))


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    store = Store.open(url(path))
    assert store.counts().spans == 0
    store.close()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "ünï#1.db", "x&y=z.db"])
def test_names_with_special_characters(tmp_path: Path, name: str) -> None:
    Store.open(url(tmp_path / name)).close()
    assert (tmp_path / name).stat().st_size > 0


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory; name a file in it"):
        Store.open(url(tmp_path))


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        Store.open(url(tmp_path / "file" / "store.db"))
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere" / "store.db")
    with pytest.raises(StoreError, match="cannot be made"):
        Store.open(url(tmp_path / "link.db"))


@pytest.mark.parametrize("bad", ["postgresql://host/db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "store.db"])
def test_a_url_of_another_kind_is_refused(bad: str) -> None:
    with pytest.raises(StoreError, match="expected sqlite:///path"):
        Store.open(bad)


AS_NOBODY = """
import os, sys
from tracekeeper.store.store import Store
from tracekeeper.types import StoreError
os.setgid(65534); os.setuid(65534)
for name in sys.argv[1:]:
    try:
        Store.open("sqlite:///" + name)
        print("opened")
    except StoreError as error:
        print("StoreError", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="drops its user id")
def test_a_store_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    import shutil
    import tempfile

    # Not below tmp_path, whose folders another user may not enter.
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    try:
        path = place / "store.db"
        Store.open(url(path)).close()
        path.chmod(0o644)
        command = [sys.executable, "-c", AS_NOBODY, str(path), str(place / "new.db")]
        done = subprocess.run(command, capture_output=True, text=True, env=programs.environment(), timeout=60)
        there, new = done.stdout.splitlines()
        assert there.startswith(f"StoreError {path} cannot be written by this user"), done.stderr
        assert new.startswith(f"StoreError {place / 'new.db'} cannot be made: Permission denied")
    finally:
        shutil.rmtree(place)


RACE = """
import sys
from tracekeeper.store.store import Store
from tracekeeper.store import schema
sys.stdin.readline()
store = Store.open("sqlite:///store.db", busy_timeout=20)
print(store.register_journal(name=sys.argv[1], host="h", pid=1, started=0).name)
"""


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    for _ in range(2):
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, f"j{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=programs.environment(),
                text=True,
            )
            for number in range(4)
        ]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for number, racer in enumerate(racers):
            out, err = racer.communicate(timeout=60)
            assert out.strip() == f"j{number}", err
        store = Store.open(url(tmp_path / "store.db"))
        assert len(store.journal_rows()) == 4
        store.close()
        for file in tmp_path.iterdir():
            file.unlink()


def test_a_store_opens_and_reads_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(url(path)).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = Store.open(url(path), busy_timeout=0.1)
    assert store.counts().records == 0
    with pytest.raises(StoreLocked, match="journal"):
        store.register_journal(name="j", host="h", pid=1, started=0)
    holder.execute("ROLLBACK")
    holder.close()
    store.register_journal(name="j", host="h", pid=1, started=0)
    store.close()


def test_a_file_that_is_filled_while_it_is_looked_at_is_not_taken_for_another_programs(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    driver = sqlite3.connect(path, isolation_level=None)
    driver.execute("PRAGMA journal_mode = WAL")
    filled = []

    def fill(statement: str) -> None:
        if "sqlite_master" in statement and not filled:
            filled.append(True)
            Store.open(url(path)).close()

    driver.set_trace_callback(fill)
    seen = schema._look(driver)
    driver.set_trace_callback(None)
    assert filled
    assert (seen.application_id, seen.tables) == (0, 0)
    assert schema._look(driver).application_id == schema.APPLICATION_ID
    driver.close()
