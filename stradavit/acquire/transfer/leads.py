"""Addresses that servers give: where they must not lead.

A redirect or a link of a job is followed wherever it points, but not from an encrypted address to
a plain one, and not from the internet into the network of whoever runs this: a server could so
speak to machines that only we can reach.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def astray(origin: str, target: str) -> str:
    """What is wrong with going on from one address to another; empty if nothing is.

    Parameters
    ----------
    origin : address that was asked, of the settings or one it led to
    target : where its answer leads
    """
    before, after = urlsplit(origin), urlsplit(target)
    if before.scheme == "https" and after.scheme == "http":
        return "leads from an encrypted address to a plain one"
    return leads_inside(origin, target)


def leads_inside(origin: str, target: str) -> str:
    """As `astray`, where the archive is known to mix plain and encrypted addresses."""
    if is_inside(urlsplit(target).hostname) and not is_inside(urlsplit(origin).hostname):
        return "leads into a private network"
    return ""


def is_inside(host: str | None) -> bool:
    """Whether a host is this machine or of a private network, as far as its name says so.

    Names are not looked up: what they stand for may change until they are used.
    """
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and not address.is_global


def _address(name: str) -> Address | None:
    """The address a host is written as, in any of the ways that systems understand."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        # Also `127.1`, `0x7f000001` and `2130706433`.
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, ValueError):
        return None
