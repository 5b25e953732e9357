"""The states of claimed scores in plain Python: ``docs/design/leases.md`` written a second time, to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.rows import SECOND

from tracekeeper.store.claims.losses import PROCESS_ENDED, Reaped

BEGIN = 1_700_000_000 * SECOND
LEASE, WITHIN = 30 * SECOND, 300 * SECOND
FINAL = ("scored", "failed", "timed_out", "cancelled")
OPEN = ("pending", "running")
RANK = {"pending": 0, "running": 1}


@dataclass
class Score:
    """A row as the model sees it."""

    name: str
    mode: str
    created: int
    journal: str | None
    status: str = "pending"
    attempt: int = 0
    owner: str | None = None
    lease: int | None = None
    lost: int = 0
    available: int | None = None
    value: float | None = None
    reason: str | None = None
    started: bool = False
    attempts: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Status, and whether it lapsed, by number."""
    notes: set[int] = field(default_factory=set)
    """Of these, the ones that were replaced before they settled."""
    claimed: set[int] = field(default_factory=set)
    """Attempts that somebody claimed."""


class Model:
    """The transitions, one by one."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.scores: dict[str, Score] = {}
        self.seen: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def silent(self, journal: str | None) -> bool:
        return journal is not None and not self.now - LEASE <= self.seen[journal] <= self.now + LEASE

    def heard(self, journal: str | None, who: str) -> bool:
        return journal is not None and (journal == who or not self.silent(journal))

    def held(self, score: Score) -> bool:
        return bool(score.owner) and score.lease is not None and self.now <= score.lease <= self.now + 2 * LEASE

    def before_claim(self, who: str) -> None:
        for score in self.scores.values():
            if self.may_be_freed(score, who):
                score.journal = None

    def may_be_freed(self, score: Score, who: str) -> bool:
        others = score.journal != who and self.silent(score.journal)
        return score.status == "pending" and score.owner is None and others

    def claimable(self, score: Score) -> bool:
        return (
            score.status == "pending"
            and not score.owner
            and (score.journal is None or score.mode == "deferred")
            and (score.available is None or not self.now < score.available <= self.now + 60 * SECOND)
        )

    def claim(self, score: Score, who: str) -> None:
        score.owner, score.journal, score.lease = who, who, self.now + LEASE
        score.attempt += 1
        score.available = None
        score.claimed.add(score.attempt)

    def lose(self, score: Score) -> None:
        ran = score.status == "running"
        lost = score.lost + 1 if ran else max(score.lost, 1)
        if ran and lost == 3:
            score.status, score.available = "failed", None
        else:
            score.attempts[score.attempt] = ("cancelled", 1)
            score.status, score.available = "pending", self.now + 2 ** (lost - 1) * SECOND
            score.started = False
        score.owner, score.lease, score.journal, score.lost = "", None, None, lost

    def frame(self, score: Score, who: str, attempt: int, status: str, value: float | None) -> bool:
        """What a frame does; whether it is refused."""
        final = score.status in FINAL
        if not (score.owner in (None, who) or (score.owner == "" and final and score.journal == who)):
            return True
        if (attempt, RANK.get(status, 2)) <= (score.attempt, RANK.get(score.status, 2)):
            if score.attempts.get(attempt, ("", 0))[1]:
                return True
            if 0 < attempt < score.attempt:
                self.keep(score, attempt, status)
            return False
        if attempt > score.attempt and (score.attempt or final):
            self.keep(score, score.attempt, score.status)
        if score.owner is not None:
            score.lease = None if status in FINAL else (self.now + LEASE if score.owner == "" else score.lease)
            score.owner = "" if status in FINAL else who
        score.status, score.attempt, score.value, score.journal = status, attempt, value, who
        score.available, score.started, score.reason = None, status != "pending", None
        return False

    def keep(self, score: Score, attempt: int, status: str) -> None:
        # The note that an attempt was replaced before it settled gives way to its outcome; nothing else does.
        if attempt in score.notes or attempt not in score.attempts:
            score.attempts[attempt] = (status if status in FINAL else "cancelled", 0)
            score.notes.discard(attempt)
            if status not in FINAL:
                score.notes.add(attempt)

    def apply(self, score: Score, who: str, *frames: tuple[int, str, float | None]) -> None:
        """Frames that come in one batch."""
        before = (score.owner, score.lease)
        for each in frames:
            self.refused[who] += self.frame(score, who, *each)
        if before[0] == score.owner == who:
            score.lease = before[1]  # what was final within the batch only was never given back
        self.seen[who] = self.now

    def die(self, who: str) -> None:
        for score in self.scores.values():
            if score.status in OPEN and (
                score.owner == who or (score.owner is None and score.journal == who and score.status == "running")
            ):
                self.lose(score)
            elif score.status == "pending" and not score.owner and score.journal == who:
                score.journal = None

    def reap(self, who: str) -> Reaped:
        count = [0, 0]
        for score in self.scores.values():
            lapsed = score.owner and not self.held(score)
            silent = (
                score.owner is None
                and score.status == "running"
                and score.journal != who
                and self.silent(score.journal)
            )
            if score.status in OPEN and (lapsed or silent):
                self.lose(score)
                count[score.status == "failed"] += 1
        return Reaped(*count)

    def take(self, score: Score, who: str, again: bool) -> bool:
        if score.status in FINAL:
            never = (
                score.status == "cancelled"
                or score.reason == PROCESS_ENDED
                or not score.attempt
                or (score.status == "failed" and not score.started and score.lost < 3)
            )
            if not (again or never):
                return False
            if score.attempt not in score.attempts:
                score.attempts[score.attempt] = (score.status, 0)
            score.status, score.value, score.reason, score.created = "pending", None, None, self.now
            score.started, score.lost, score.mode = False, min(score.lost, 1), "background"
        elif self.has_lost(score, who):
            self.lose(score)
            if score.status == "failed":
                return False
        elif (
            score.owner
            or score.status == "running"
            or (score.owner is None and score.mode != "deferred" and self.heard(score.journal, who))
        ):
            return False
        self.claim(score, who)
        return True

    def has_lost(self, score: Score, who: str) -> bool:
        if score.owner:
            return score.owner != who and not self.held(score)
        return score.owner is None and score.status == "running" and not self.heard(score.journal, who)

    def overdue(self) -> int:
        count = 0
        for score in self.scores.values():
            held = score.owner and score.lease is not None and score.lease >= self.now
            if score.status in OPEN and score.created < self.now - WITHIN and not held:
                score.status, score.available, score.lease = "failed", None, None
                if score.owner is not None:
                    score.owner, score.journal = "", None
                count += 1
        return count
