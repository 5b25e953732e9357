"""Full-text search over what records said, built behind ingestion.

``create_search`` makes the tables, ``index_pending`` fills them behind its own cursor, ``match_records`` is the
condition that a query uses. See ``tracekeeper.types.text`` for how texts of all languages are cut into terms.
"""

from tracekeeper.store.search.indexing import Waiting, index_pending, remove_records, waiting
from tracekeeper.store.search.matching import match_records
from tracekeeper.store.search.schema import create_search, reset_search

__all__ = [
    "Waiting",
    "create_search",
    "index_pending",
    "match_records",
    "remove_records",
    "reset_search",
    "waiting",
]
