from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app.outbound import Outbound, is_public, origin_of
from app.problems import Problem


class Site:
    """A site that answers `/file`, redirects `/to?ADDRESS`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append((self.path, dict(self.headers)))
                path, _, query = self.path.partition("?")
                status = {"/to": 302, "/file": 200}.get(path, 500)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", query)
                if status == 200:
                    self.send_header("Content-Length", "9" if query == "short" else "5")
                self.end_headers()
                if status == 200:
                    self.wfile.write(b"bytes")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    both = Site(), Site()
    yield both
    for site in both:
        site.server.shutdown()
        site.server.server_close()
        site.thread.join(10)


def fetch(url: str, **options: Any) -> bytes:
    headers = options.pop("headers", lambda url: {})
    with Outbound(**options).get(url, headers) as answer:
        return b"".join(answer.iter_bytes())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_addresses_inside_a_network_are_not_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_an_address_inside_is_refused_unless_its_host_is_allowed(sites: tuple[Site, Site]) -> None:
    site, _ = sites
    for private in ([], ["elsewhere"], ["127.0.0.1:1"]):
        with pytest.raises(Problem, match="inside a network") as refused:
            fetch(f"{site.url}/file", private=private)
        assert refused.value.kind.slug == "media-unreachable"
    assert site.seen == []
    for private in (["127.0.0.1"], [f" {site.host} "]):
        assert fetch(f"{site.url}/file", private=private) == b"bytes"
    assert site.seen[0][1]["Host"] == site.host
    assert site.seen[0][1]["Accept-Encoding"] == "identity"


def test_a_name_is_looked_up_once_and_spoken_to_at_that_address(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = sites
    real = socket.getaddrinfo
    asked: list[str] = []

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "media.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    port = site.host.split(":")[1]
    assert fetch(f"http://media.example:{port}/file", private=["media.example"]) == b"bytes"
    assert asked.count("media.example") == 1
    assert site.seen[0][1]["Host"] == f"media.example:{port}"
    with pytest.raises(Problem, match="inside a network"):
        fetch(f"http://media.example:{port}/file")


def test_headers_are_made_anew_for_every_hop(sites: tuple[Site, Site]) -> None:
    here, there = sites

    def headers(url: str) -> dict[str, str]:
        return {"Authorization": "secret"} if origin_of(url) == origin_of(here.url) else {}

    private = [here.host, there.host]
    assert fetch(f"{here.url}/to?{there.url}/file", private=private, headers=headers) == b"bytes"
    assert here.seen[0][1]["Authorization"] == "secret"
    assert "Authorization" not in there.seen[0][1]
    assert fetch(f"{here.url}/to?/file", private=private, headers=headers) == b"bytes"
    assert here.seen[-1][1]["Authorization"] == "secret"


def test_a_redirect_is_looked_at_too(sites: tuple[Site, Site]) -> None:
    here, there = sites
    with pytest.raises(Problem, match="inside a network"):
        fetch(f"{here.url}/to?{there.url}/file", private=[here.host])
    assert there.seen == []
    with pytest.raises(Problem, match="only http and https"):
        fetch(f"{here.url}/to?file:///etc/passwd", private=[here.host])
    with pytest.raises(Problem, match="redirects more than 5"):
        fetch(f"{here.url}/to?/to?/to?/to?/to?/to?/to?/file", private=[here.host])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.org/x", "only http"),
        ("http:///x", "only http"),
        ("http://[::1", "no address"),
        ("http://x:99999/y", "no address"),
        ("http://no-such-name.invalid/y", "not known"),
        ("nonsense", "only http"),
    ],
)
def test_what_is_no_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(Problem, match=said):
        fetch(url)


def test_failures_say_why_and_keep_signatures_to_themselves(sites: tuple[Site, Site]) -> None:
    site, _ = sites
    with pytest.raises(Problem, match="answers 500") as refused:
        fetch(f"{site.url}/none?signature=secret", private=[site.host])
    assert "secret" not in refused.value.detail
    with pytest.raises(Problem, match="broke off"):
        fetch(f"{site.url}/file?short", private=[site.host])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(Problem, match="does not answer"):
        fetch(f"http://127.0.0.1:{port}/", private=["127.0.0.1"])
