"""Shapes of personal data and secrets, each with the check that tells it from a number that only looks like it.

Every pattern is bounded and begins at a place that few texts have many of, so that a scan stays linear. A found shape
is confirmed by its check digits (card numbers: Luhn, ISO/IEC 7812; IBAN: mod 97, ISO 13616; Chinese resident identity
numbers: mod 11-2, GB 11643) or by the standard library's parser (IP addresses).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Shape(NamedTuple):
    """A kind of personal data: where it may be, and whether it is."""

    kind: str
    pattern: re.Pattern[str]
    confirm: Callable[[str], bool]


def luhn(text: str) -> bool:
    """Whether the digits of a text satisfy the Luhn check.

    Example
    -------
    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Whether a text is an IBAN whose check digits are right.

    Example
    -------
    >>> iban("DE89 3704 0044 0532 0130 00"), iban("DE88 3704 0044 0532 0130 00")
    (True, False)
    """
    plain = "".join(text.split())
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _iban(text: str) -> bool:
    """The text, or the text without the last groups: the word after an IBAN may look like one of its groups."""
    groups = text.split()
    return any(iban(" ".join(groups[:count])) for count in range(len(groups), max(len(groups) - 4, 0), -1))


def _card(text: str) -> bool:
    """A card number, perhaps with the groups of an expiry date after it."""
    groups = re.split("[ -]", text)
    return any(_is_card("".join(groups[:count])) for count in range(len(groups), 0, -1))


def _is_card(digits: str) -> bool:
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _resident(text: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(text[:17], weights, strict=True))
    return "10X98765432"[total % 11] == text[17].upper()


def _phone(text: str) -> bool:
    return 8 <= sum(character.isdigit() for character in text) <= 15  # E.164 allows 15


def _address(text: str) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)


def _six(text: str) -> bool:
    # `x[10::20]` and `A::B` parse as addresses too: a shortened one must begin as real ones do (2001:…, fe80:…).
    return _address(text) and (text.count(":") == 7 or len(text.split(":")[0]) >= 3)


def _always(_: str) -> bool:
    return True


_SECRETS = (
    r"sk-[A-Za-z0-9_-]{20,200}",  # OpenAI, Anthropic and those that follow them
    r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])",  # AWS access key id
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_-]{20,64}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
    r"AIza[0-9A-Za-z_-]{35}",  # Google
    r"hf_[A-Za-z0-9]{30,64}",  # Hugging Face
    r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,128}",  # Stripe
    r"eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,2000}",  # JSON Web Token
    r"-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY-----",
)
# In this order: a part of the text that one shape has taken is not looked at by the next.
SHAPES = (
    Shape("api_key", re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_SECRETS)})", re.ASCII), _always),
    Shape(
        "email",
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
        _always,
    ),
    Shape(
        "iban",
        re.compile(
            r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)(?![A-Za-z0-9])",
            re.ASCII,
        ),
        _iban,
    ),
    Shape("cn_id", re.compile(r"(?<!\d)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?![0-9A-Za-z])", re.ASCII), _resident),
    Shape("credit_card", re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d])", re.ASCII), _card),
    Shape(
        "us_ssn",
        re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])", re.ASCII),
        _always,
    ),
    Shape("ip_address", re.compile(r"(?<![\w.:])\d{1,3}(?:\.\d{1,3}){3}(?![\w:]|\.\d)", re.ASCII), _address),
    Shape("ip_address", re.compile(r"(?<![\w.:])[0-9A-Fa-f:]{2,39}+(?:\.\d{1,3}){0,3}(?![\w:])", re.ASCII), _six),
    Shape(
        "phone",
        re.compile(
            r"(?<![\w+])(?:"
            r"(?:\+|00)[1-9](?:[ ().-]{0,2}\d){6,14}"  # international, E.164
            r"|(?:1[ .-])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}"  # North America
            r"|1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # mobile numbers of mainland China
            r")(?![\w-])",
            re.ASCII,
        ),
        _phone,
    ),
)
KINDS = tuple(dict.fromkeys(shape.kind for shape in SHAPES))


def find(text: str, kinds: frozenset[str]) -> Iterator[str]:
    """The kind of everything found, once for each place in the text."""
    for shape in SHAPES:
        if shape.kind not in kinds:
            continue
        kept: list[str] = []
        last = 0
        for match in shape.pattern.finditer(text):
            if shape.confirm(match.group()):
                yield shape.kind
                kept.append(text[last : match.start()])
                last = match.end()
        if kept:
            kept.append(text[last:])
            text = "\n".join(kept)
