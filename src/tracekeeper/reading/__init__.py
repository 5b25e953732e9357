"""Reading what was kept: records, scores, leaderboards, receipts. Whoever reads sees everything traced before."""

from tracekeeper.reading.accounts import status
from tracekeeper.reading.feedback import score
from tracekeeper.reading.listing import records, records_and_scores
from tracekeeper.reading.receipts import flush, shutdown
from tracekeeper.reading.standings import leaderboard
from tracekeeper.reading.tables import Table

__all__ = ["Table", "flush", "leaderboard", "records", "records_and_scores", "score", "shutdown", "status"]
