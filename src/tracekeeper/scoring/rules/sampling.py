"""Which targets a rule judges when it judges a share of them: the same in every process and after every restart."""

from __future__ import annotations

from hashlib import blake2b


def key_of(target: str, trace_id: str, span_id: str, session_id: str) -> str:
    """What identifies a target."""
    return f"session:{session_id}" if target == "session" else f"{target}:{trace_id}:{span_id}"


def is_sampled(rule: str, key: str, share: float) -> bool:
    """Whether a rule judges a target. A larger share contains every smaller one; two rules choose independently.

    Example
    -------
    >>> chosen = [n for n in range(1000) if is_sampled("r", f"record:{n}", 0.1)]
    >>> len(chosen), all(is_sampled("r", f"record:{n}", 0.2) for n in chosen)
    (91, True)
    """
    digest = blake2b(f"{rule}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64
