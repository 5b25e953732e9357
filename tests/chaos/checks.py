"""Holds what is stored to what the apps say that they did. Reads the database with SQL of its own.

Each check has a name, counts what it looked at, and tells every violation with the whole history of its record. The
tests of this module (``test_checks.py``) plant violations and see them reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos import truth
from tests.chaos.stored import Fate, Row, Stored, Violation, counts_of, shown
from tests.chaos.truth import Call, Key, Log

FINAL = {"scored", "failed", "timed_out", "cancelled", "skipped"}
SLACK = 4.0
"""Seconds that a wait may take beyond its deadline on a machine that is busy with chaos."""
LATE_SHARE = 0.03
"""Share of the scores with a short deadline that may miss it although their metric is well: the machine is busy."""


class Check:
    """All checks of one run.

    Parameters
    ----------
    directory:
        The data directory, after everybody has left.
    logs:
        What the apps did.
    fates:
        What became of apps and workers.
    status:
        What ``tracekeeper status --json`` said in the end.
    """

    def __init__(
        self, directory: Path, logs: Iterable[Log], fates: Iterable[Fate], status: Mapping[str, Any] | None = None
    ) -> None:
        self.directory = directory
        self.status = status
        self.logs = list(logs)
        self.fates = {fate.name: fate for fate in fates}
        self._by_pid = {fate.pid: fate for fate in self.fates.values()}
        self.calls = {call.key: call for log in self.logs for call in log.calls}
        self.stored = Stored(directory / "tracekeeper.db")
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []

    def run(self) -> list[Violation]:
        """Every check; the violations."""
        for check in (
            self.every_call_that_returned_is_stored,
            self.every_record_has_every_score_once,
            self.nothing_is_invented,
            self.every_score_says_what_it_must,
            self.attempts_are_consistent,
            self.the_books_add_up,
            self.status_says_the_same,
            self.nothing_is_left_behind,
            self.nobody_waited_too_long,
            self.no_metric_ran_past_its_deadline,
            self.nobody_died_of_itself,
        ):
            check()
        return self.violations

    def broken(self, check: Callable[[], None], text: str, key: Key | None = None) -> None:
        self.violations.append(Violation(check.__name__, text, key))

    # -- records ---------------------------------------------------------------------------------------------------

    def every_call_that_returned_is_stored(self) -> None:
        """With how it ended and the span below it; what is not was counted as dropped by its process."""
        for log in self.logs:
            missing = []
            for call in log.calls:
                rows = self.stored.records.get(call.key, [])
                self.counts["calls begun"] += 1
                self.counts["calls that returned"] += call.returned
                self.counts["calls stored"] += bool(rows)
                if len(rows) > 1:
                    self.broken(self.every_call_that_returned_is_stored, f"{len(rows)} records of one call", call.key)
                ended = bool(rows) and rows[0]["status"] in ("ok", "error")
                if ended and (rows[0]["status"] == "error") != call.raised:
                    said = rows[0]["status"]
                    self.broken(self.every_call_that_returned_is_stored, f"its record says {said}", call.key)
                if (call.returned and not ended) or (ended and self.stored.inner[call.key] != 1):
                    missing.append(call)
            dropped = self._dropped(log)
            self.counts["calls dropped, and counted"] += min(len(missing), dropped)
            if len(missing) > dropped:
                for call in missing:
                    text = f"its call returned; {len(missing)} of {log.child} are not whole, {dropped} are counted"
                    self.broken(self.every_call_that_returned_is_stored, text, call.key)

    def _dropped(self, log: Log) -> int:
        """Frames that the process or its journals count as dropped."""
        pid = self.fates[log.child].pid
        by_journals = sum(sum(counts_of(row["dropped"]).values()) for row in self.stored.journals if row["pid"] == pid)
        by_itself = max((sum(receipt["dropped"].values()) for receipt in log.receipts), default=0)
        return max(by_journals, by_itself)

    def _drops(self, call: Call) -> bool:
        """Whether the process of a call dropped anything."""
        return any(log.child == call.child and self._dropped(log) for log in self.logs)

    def ended(self) -> Iterator[tuple[Call, list[Row]]]:
        """Calls whose record says how they ended, and their scores."""
        for key, rows in self.stored.records.items():
            call = self.calls.get(key)
            if call is not None and rows[0]["status"] in ("ok", "error"):
                yield call, self.stored.scores.get(key, [])

    def every_record_has_every_score_once(self) -> None:
        """For each metric of its app one current row; final, or pending and named as waiting."""
        waiting = Counter[str]()
        for call, rows in self.ended():
            self.counts["records that ended"] += 1
            found = Counter(row["name"] for row in rows)
            for name in truth.names_of(call.app):
                self.counts["scores due"] += 1
                if found[name] != 1:
                    self.broken(self.every_record_has_every_score_once, f"{found[name]} scores {name!r}", call.key)
            for row in rows:
                self.counts[f"scores {row['status']}"] += 1
                if row["status"] in FINAL:
                    if row["owner"] or row["lease_until"] is not None:
                        text = f"{row['name']} is {row['status']} and still claimed by {row['owner']}"
                        self.broken(self.every_record_has_every_score_once, text, call.key)
                elif row["status"] == "pending" and row["name"] == truth.metrics.NOBODYS:
                    waiting[row["name"]] += 1
                else:
                    text = f"{row['name']} is {row['status']} for ever"
                    self.broken(self.every_record_has_every_score_once, text, call.key)
        named = self.waiting()
        self.counts["scores named as waiting"] = sum(named.values())
        if waiting != named:
            text = f"pending are {dict(waiting)}, named as waiting {dict(named)}"
            self.broken(self.every_record_has_every_score_once, text)

    def waiting(self) -> Counter[str]:
        """What Tracekeeper itself says is waiting."""
        from tracekeeper.store.store import Store

        store = Store.open(f"sqlite:///{self.directory / 'tracekeeper.db'}")
        try:
            named = Counter[str]()
            for row in store.waiting():
                named[row.name] += row.count
            return named
        finally:
            store.close()

    def nothing_is_invented(self) -> None:
        """No record of a call that was not begun, no score of what does not exist."""
        begun = {call.question for call in self.calls.values()}
        asked = {question for log in self.logs for question in log.asked} - begun
        cut = set[Key]()
        for key, rows in self.stored.records.items():
            if key in self.calls:
                continue
            question = self.stored.questions.get(rows[0]["id"])
            if rows[0]["status"] == "interrupted" and question in asked:
                cut.add(key)  # killed after its span began and before it could say so
            else:
                self.broken(self.nothing_is_invented, "a record of a call that nobody made", key)
        self.counts["calls killed at their very beginning"] = len(cut)
        for key, rows in self.stored.scores.items():
            call = self.calls.get(key)
            known = truth.names_of(call.app) if call is not None else set()
            for row in rows:
                self.counts["scores stored"] += 1
                # Where the disk was full, the record may be what was dropped, and counted.
                self.counts["scores of records that were dropped"] += key not in self.stored.records
                if row["name"] not in known and not (key in cut and row["name"] == truth.metrics.RULED):
                    self.broken(self.nothing_is_invented, f"a score {row['name']!r} that nothing asked for", key)

    # -- scores ----------------------------------------------------------------------------------------------------

    def every_score_says_what_it_must(self) -> None:
        """The value that its metric has for this very record, or what its metric does to it, or what came between."""
        short = truth.timeouts()
        hasty = late = 0
        for call, rows in self.ended():
            for row in rows:
                name = row["name"]
                if row["status"] not in FINAL or name not in truth.names_of(call.app):
                    continue
                hasty += name in short
                wanted = truth.expected(call, name)
                if _says(row, wanted):
                    self.counts["scores as they must be"] += 1
                elif came := self._came_between(call, row):
                    self.counts[f"scores {came}"] += 1
                elif name in short and row["status"] == "timed_out" and wanted.status != "timed_out":
                    late += 1
                else:
                    told = shown({each: row[each] for each in ("status", "value", "label", "reason", "error")})
                    self.broken(self.every_score_says_what_it_must, f"{name} must be {wanted}, is {told}", call.key)
        self.counts["scores of a well metric past a short deadline"] = late
        if late > max(3, LATE_SHARE * hasty):
            self.broken(self.every_score_says_what_it_must, f"{late} of {hasty} scores timed out needlessly")

    def _came_between(self, call: Call, row: Row) -> str | None:
        """The reason that a process's end gives a score, if that end happened."""
        reason, fate = row["reason"] or "", self.fates[call.child]
        if row["status"] == "skipped" and "was not captured" in reason and self._drops(call):
            return "skipped for a payload that was dropped"
        if truth.is_local(row["name"]):
            # A score whose frame was dropped (and counted) ends with its process too.
            if row["status"] == "failed" and "its process ended" in reason and (fate.code != 0 or self._drops(call)):
                return "failed with their process"
            if row["status"] == "cancelled" and "process exited" in reason and fate.told:
                return "cancelled by an exit"
            return None
        if row["status"] == "skipped" and reason == "not sampled" and row["name"] in truth.SAMPLED:
            return "not sampled"
        if row["status"] == "failed" and row["lost"] >= 3 and "lost" in reason:
            return "failed after three lost workers"
        return None

    def attempts_are_consistent(self) -> None:
        """One outcome per attempt, earlier ones only, in order; what is scored was attempted."""
        for key, rows in self.stored.scores.items():
            for row in rows:
                earlier = self.stored.attempts.get(row["id"], [])
                self.counts["earlier attempts"] += len(earlier)
                self.counts["attempts whose worker was lost"] += sum(each["lapsed"] for each in earlier)
                numbers = [each["attempt"] for each in earlier]
                if len(set(numbers)) != len(numbers) or any(number < 0 for number in numbers):
                    self.broken(self.attempts_are_consistent, f"{row['name']}: attempts {numbers}", key)
                # A lost attempt is archived under its number before the row gets a new one.
                if any(each["attempt"] > row["attempt"] or each["status"] not in FINAL for each in earlier):
                    text = f"{row['name']} is attempt {row['attempt']}, earlier are {numbers}"
                    self.broken(self.attempts_are_consistent, text, key)
                twice = [each for each in earlier if each["attempt"] == row["attempt"] and each["status"] == "scored"]
                if twice and row["status"] in FINAL:
                    self.broken(self.attempts_are_consistent, f"{row['name']}: two outcomes of one attempt", key)
                if row["status"] == "scored" and row["attempt"] < 1:
                    self.broken(self.attempts_are_consistent, f"{row['name']} is scored without an attempt", key)

    # -- the account -----------------------------------------------------------------------------------------------

    def the_books_add_up(self) -> None:
        """Each journal's figures are those of its rows, each receipt adds up, and what left says what is there."""
        for row in self.stored.journals:
            self.counts["journals"] += 1
            self.counts["score frames refused"] += row["refused"]
            self.counts["frames damaged"] += row["damaged"]
            self.counts["frames dropped"] += sum(counts_of(row["dropped"]).values())
            if row["spans_stored"] != self.stored.spans.get(row["id"], 0):
                rows = self.stored.spans.get(row["id"], 0)
                text = f"journal {row['name']} says {row['spans_stored']} spans are stored, there are {rows}"
                self.broken(self.the_books_add_up, text)
            if row["state"] not in ("closed", "recovered"):
                self.broken(self.the_books_add_up, f"journal {row['name']} (pid {row['pid']}) is {row['state']}")
            if row["damaged"]:
                self.broken(self.the_books_add_up, f"journal {row['name']}: {row['damaged']} damaged frames")
        for log in self.logs:
            for receipt in log.receipts:
                self.counts["receipts"] += 1
                if receipt["journaled"] != receipt["stored"] + receipt["pending"]:
                    self.broken(self.the_books_add_up, f"a receipt of {log.child} does not add up: {receipt}")
            if log.left is not None:
                pid = self.fates[log.child].pid
                there = sum(row["spans_stored"] for row in self.stored.journals if row["pid"] == pid)
                if there != log.left["journaled"]:
                    text = f"{log.child} left with {log.left['journaled']} spans journaled, {there} are stored"
                    self.broken(self.the_books_add_up, text)

    def status_says_the_same(self) -> None:
        """The account that people see is the one of the tables, and says what waiting scores need."""
        if self.status is None:
            return
        said = self.status.get("stored", {})
        rows = [row for rows in self.stored.scores.values() for row in rows]
        for what, told, true in (
            ("records", said.get("records"), sum(map(len, self.stored.records.values()))),
            ("spans", said.get("spans"), sum(self.stored.spans.values())),
            ("scores", said.get("scores"), dict(Counter(row["status"] for row in rows))),
            ("refused scores", said.get("refused"), sum(row["refused"] for row in self.stored.journals)),
            ("processes", self.status.get("processes"), []),
            ("claimed scores", self.status.get("leases"), {}),
        ):
            self.counts["figures of the status"] += 1
            if told != true:
                self.broken(self.status_says_the_same, f"status says {what}: {told}; it is {true}")
        for waiting in self.status.get("waiting", ()):
            if "chaos_elsewhere" not in str(waiting):
                self.broken(self.status_says_the_same, f"status does not say what is needed: {waiting}")

    def nothing_is_left_behind(self) -> None:
        """No journal, no snapshot of a process, nothing half made; no worker that is listed and gone."""
        for pid in self.stored.workers:
            self.broken(self.nothing_is_left_behind, f"the worker {pid} is listed and gone")
        usual = {"tracekeeper.db", "tracekeeper.db-wal", "tracekeeper.db-shm"}
        for path in sorted(self.directory.rglob("*")):
            if path.is_file() and path.name not in usual and not _is_ours_to_keep(path):
                self.broken(self.nothing_is_left_behind, f"{path.relative_to(self.directory)} is left")

    # -- time ------------------------------------------------------------------------------------------------------

    def nobody_waited_too_long(self) -> None:
        """Beyond its deadline, by a clock that nobody steps and without the time it stood still."""
        for log in self.logs:
            for wait in log.waits:
                self.counts["waits"] += 1
                still = self.fates[log.child].stood_still(wait["begun"], wait["begun"] + wait["took"])
                if wait["took"] - still > wait["allowed"] + SLACK:
                    text = f"{wait['of']} of {log.child} took {wait['took'] - still:.1f} s of {wait['allowed']} s"
                    self.broken(self.nobody_waited_too_long, text)

    def no_metric_ran_past_its_deadline(self) -> None:
        """By the clock of the process that ran it, where nobody stepped that."""
        short = truth.timeouts()
        by_journal = {row["id"]: self._by_pid.get(row["pid"]) for row in self.stored.journals}
        for key, rows in self.stored.scores.items():
            for row in rows:
                fate = by_journal.get(row["journal_id"])
                timed = row["name"] in short and row["started_at"] and row["settled_at"]
                if not timed or fate is None or fate.stepped:
                    continue
                self.counts["evaluations timed"] += 1
                took = (row["settled_at"] - row["started_at"]) / 1e9
                still = sum(until - since for since, until in fate.stops)
                if took - still > short[row["name"]] + SLACK:
                    text = f"{row['name']} took {took:.1f} s of {short[row['name']]} s in {fate.name}"
                    self.broken(self.no_metric_ran_past_its_deadline, text, key)

    def nobody_died_of_itself(self) -> None:
        """But for workers that a metric killed."""
        for fate in self.fates.values():
            self.counts[f"{fate.kind}s"] += 1
            by_a_metric = fate.kind == "worker" and fate.code == -9
            if fate.told is not None and fate.told.startswith("ended by itself"):
                self.counts["workers killed by a metric"] += by_a_metric
                if not by_a_metric:
                    self.broken(self.nobody_died_of_itself, f"{fate.name} {fate.told}")

    # -- telling ---------------------------------------------------------------------------------------------------

    def history(self, key: Key) -> str:
        """Everything that is known of a record."""
        call = self.calls.get(key)
        lines = [f"  record {key[0]}:{key[1]}", f"  call: {call}"]
        if call is not None:
            lines.append(f"  its process: {self.fates[call.child]}")
        lines += [f"  stored: {shown(row)}" for row in self.stored.records.get(key, [])] or ["  not stored"]
        for row in self.stored.scores.get(key, []):
            lines.append(f"  score: {shown(row)}")
            lines += [f"    attempt: {shown(each)}" for each in self.stored.attempts.get(row["id"], [])]
        return "\n".join(lines)


def _says(row: Row, wanted: truth.Expected) -> bool:
    if row["status"] != wanted.status:
        return False
    if wanted.status == "scored" and wanted.label is not None:
        return bool(row["label"] == wanted.label)
    if wanted.status == "scored":
        return row["value"] is not None and abs(row["value"] - (wanted.value or 0.0)) < 1e-9
    said = f"{row['reason'] or ''} {row['error'] or ''}"
    return row["value"] is None and bool(said.strip()) and wanted.reason in said


def _is_ours_to_keep(path: Path) -> bool:
    """Files that a data directory has when nobody uses it."""
    return path.name.startswith((".", "README")) or path.suffix == ".probe"
