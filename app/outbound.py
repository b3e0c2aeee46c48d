"""Fetching what somebody else named: one address at a time, each looked at before it is spoken to.

A name is resolved once, refused where any of its addresses lies inside a network (loopback, private, link-local and
the like), and then spoken to at that very address, so that it cannot turn into another between the look and the call.
Redirects are followed by hand and looked at in the same way; headers that carry a secret are made anew for each hop by
the caller, who sees where it goes.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from app.problems import Problem

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
Headers = Callable[[str], Mapping[str, str]]
"""Makes the headers of a request to the address it is given."""


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address, in lower case, the port filled in.

    Raises:
        Problem: `media-unreachable` for what is no address of HTTP.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _cannot(url, "it is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _cannot(url, "only http and https are fetched")
    return parts.scheme, parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80)


class Outbound:
    """Fetches, with `GET`.

    Args:
        private: hosts that may have addresses inside a network, as `name` (any port) or `name:port`.
        timeout_s: for connecting, and between two pieces of the answer.
    """

    def __init__(self, *, private: Collection[str] = (), timeout_s: float = 30.0) -> None:
        self._private = {host.strip().lower() for host in private if host.strip()}
        self._timeout_s = timeout_s

    @contextmanager
    def get(self, url: str, headers: Headers = lambda url: {}) -> Iterator[httpx.Response]:
        """The answer, its body still to be read.

        Raises:
            Problem: `media-unreachable`, with a reason.
        """
        import httpx

        with httpx.Client(timeout=self._timeout_s, trust_env=False, follow_redirects=False) as client:
            for _ in range(MAX_REDIRECTS + 1):
                request = self._request(client, url, headers)
                try:
                    answer = client.send(request, stream=True)
                except httpx.HTTPError as error:
                    raise _cannot(url, f"it does not answer ({type(error).__name__})") from None
                try:
                    following = answer.headers.get("Location") if answer.is_redirect else None
                    if following is not None:
                        url = urljoin(url, following)
                        continue
                    if answer.status_code != 200:
                        raise _cannot(url, f"it answers {answer.status_code} {answer.reason_phrase}")
                    try:
                        yield answer
                    except httpx.HTTPError as error:
                        raise _cannot(url, f"the transfer broke off ({type(error).__name__})") from None
                    return
                finally:
                    answer.close()
        raise _cannot(url, f"it redirects more than {MAX_REDIRECTS} times")

    def _request(self, client: httpx.Client, url: str, headers: Headers) -> httpx.Request:
        import httpx

        scheme, host, port = origin_of(url)
        address = self._address(url, host, port)
        try:
            target = httpx.URL(url).copy_with(host=address, userinfo=b"", fragment=None)
        except httpx.InvalidURL:
            raise _cannot(url, "it is no address") from None
        shown = f"[{host}]" if ":" in host else host
        sent = {"Accept-Encoding": "identity", **headers(url)}
        sent["Host"] = shown if port == {"http": 80, "https": 443}[scheme] else f"{shown}:{port}"
        return client.build_request("GET", target, headers=sent, extensions={"sni_hostname": host})

    def _address(self, url: str, host: str, port: int) -> str:
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            raise _cannot(url, "its name is not known") from None
        if not {host, f"{host}:{port}"} & self._private and not all(map(is_public, found)):
            raise _cannot(url, "its address lies inside a network; the operator can allow its host")
        return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address may be spoken to on behalf of somebody else."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        # Forms of IPv6 that carry an address of IPv4 lead to wherever that does.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _cannot(url: str, reason: str) -> Problem:
    # What stands behind the question mark may be a signature; it is not repeated.
    return Problem("media-unreachable", f"{url.split('?')[0][:300]} cannot be fetched: {reason}.")
