"""Where a webhook may go: never to an address of this machine or its private networks, unless that is allowed.

Whoever can name a webhook could otherwise have this process talk to what only it can reach: the metadata service of a
cloud, a database, a router. So a host is resolved once, every address it has must be public, and the connection is made
to the address that was looked at: a name that resolves differently a moment later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, NamedTuple

from tracekeeper.types import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHARED = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")


class Place(NamedTuple):
    """An address that was looked at, ready to connect to."""

    family: int
    address: str
    sockaddr: Any


class PrivateAddressError(ConfigurationError):
    """A webhook leads to an address that is not public. Give it ``allow_private=True`` if that is meant."""


def why_private(address: Address) -> str | None:
    """What keeps an address from being public, or ``None``.

    An IPv6 address that stands for an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64) is judged by that one.
    Sources: RFC 6890 and its registries (as in ``ipaddress``), RFC 6598, RFC 6052, RFC 8215, RFC 3056, RFC 4380.

    Example
    -------
    >>> import ipaddress
    >>> why_private(ipaddress.ip_address("::ffff:10.0.0.1")), why_private(ipaddress.ip_address("1.1.1.1"))
    ('private', None)
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return why_private(inner)
        if address in _NAT64_LOCAL or address.is_site_local:
            return "private"
    for kind in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    if address.version == 4 and address in _SHARED:
        return "carrier-grade NAT"
    if address.is_private:
        return "private"
    return "reserved" if address.is_reserved or not address.is_global else None


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _COMPATIBLE and int(address) > 0xFFFF:  # below are "::", "::1" and what was never given out
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def literal(host: str) -> Address | None:
    """The address that a host is, in any form that a system takes for one (``127.1``, ``0x7f000001``)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host.isascii() and " " not in host else None
    except (OSError, ValueError):
        return None


def refuse_at_once(host: str) -> None:
    """Refuse a host of which nothing needs to be asked to know that it is private: an address, ``localhost``.

    Raises
    ------
    PrivateAddressError
    """
    address = literal(host)
    why = why_private(address) if address is not None else None
    if why is None and address is None:
        name = host.rstrip(".").lower()
        why = "loopback" if name == "localhost" or name.endswith(".localhost") else None
    if why is not None:
        raise PrivateAddressError(f"webhook host {host} is a {why} address; allow_private=True sends there nonetheless")


def places(host: str, port: int, *, allow_private: bool) -> list[Place]:
    """Resolve a host, once. All of its addresses must be public: which of several is taken is not ours to foresee.

    Raises
    ------
    PrivateAddressError
        One of them is not, and ``allow_private`` is false.
    OSError
        It does not resolve.
    """
    found = []
    for family, _, _, _, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        text = str(sockaddr[0])
        why = None if allow_private else why_private(ipaddress.ip_address(text))
        if why is not None:
            raise PrivateAddressError(
                f"webhook host {host} resolves to {text}, a {why} address; allow_private=True sends there nonetheless"
            )
        found.append(Place(family, text, sockaddr))
    if not found:
        raise OSError(f"{host} has no address")
    return list(dict.fromkeys(found))
