from __future__ import annotations

import re
from html.parser import HTMLParser

from fastapi.testclient import TestClient


def test_the_page_has_every_call_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    document = client.get("/openapi.json").json()
    for item in document["paths"].values():
        for operation in item.values():
            assert f'id="{operation["operationId"]}"' in page
    assert re.findall(r'(?:src|href)="(?!/|#)[^"]*"', page) == []
    assert "<script" not in page


def test_every_link_within_the_page_leads_somewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert all(client.get(link).status_code == 200 for link in set(re.findall(r'href="(/[^"]*)"', page)))


def test_its_markup_is_closed(client: TestClient) -> None:
    opened: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "html", "p"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("html", "p"):
                assert opened.pop() == tag

    Check().feed(client.get("/docs").text)
    assert opened == []
