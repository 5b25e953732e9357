"""Personal data and secrets in an output."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.pii_patterns import KINDS, find
from tracekeeper.metrics.texts import whole_text
from tracekeeper.types import MetricError


class Pii(BuiltIn):
    """How many pieces of personal data the output holds, by their shape; the reason names kinds, never the data.

    Kinds: ``email``, ``phone``, ``credit_card`` (Luhn), ``iban`` (mod 97), ``us_ssn``, ``cn_id`` (mod 11-2),
    ``ip_address`` (IPv4 and IPv6, without loopback), ``api_key`` (OpenAI-like, AWS, GitHub, GitLab, Slack, Google,
    Hugging Face, Stripe, JSON Web Tokens, PEM private keys). Names and addresses of people have no shape and are not
    found.

    Parameters
    ----------
    kinds:
        Which to look for; all by default.
    result:
        ``"count"`` (default; fewer is better) or ``"clean"``: a bool, true when there is none.
    options:
        Those of ``tk.metric``. To check what users send: ``Pii().on(output=tk.select.input())``.

    Raises
    ------
    MetricError
        An unknown kind; the nearest is named.

    Example
    -------
    >>> Pii()("Write to jane@example.com or +353 1 234 5678.")
    (2, 'found: 1 email, 1 phone')
    """

    def __init__(
        self,
        *,
        kinds: Iterable[str] = KINDS,
        result: Literal["count", "clean"] = "count",
        **options: Unpack[MetricOptions],
    ) -> None:
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        for kind in wanted:
            if kind not in KINDS:
                near = difflib.get_close_matches(str(kind), KINDS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise MetricError(f"Pii: unknown kind {kind!r}{hint}; known: {', '.join(KINDS)}")
        if not wanted:
            raise MetricError("Pii: kinds is empty; name at least one")
        if result not in ("count", "clean"):
            raise MetricError(f"Pii: result={result!r}: expected 'count' or 'clean'")
        chosen = tuple(kind for kind in KINDS if kind in wanted)
        defaults: dict[str, Any] = (
            {"direction": "minimize", "range": (0, None)} if result == "count" else {"direction": "maximize"}
        )
        self._make(_Pii(chosen, result), options, **defaults)


@dataclass(frozen=True)
class _Pii:
    kinds: tuple[str, ...]
    result: Literal["count", "clean"]

    def __call__(self, output: Any) -> tuple[int | bool, str]:
        found = Counter(find(whole_text(output), frozenset(self.kinds)))
        said = ", ".join(f"{count} {kind}" for kind, count in found.items())
        value: int | bool = found.total() if self.result == "count" else not found
        return value, f"found: {said}" if found else "none found"
