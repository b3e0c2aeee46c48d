from __future__ import annotations

from fastapi.testclient import TestClient

from app.problems import KINDS


def test_every_kind_has_a_page(client: TestClient) -> None:
    for kind in KINDS.values():
        answer = client.get(kind.type)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f"<code>{kind.slug}</code>" in answer.text


def test_the_list_links_to_all(client: TestClient) -> None:
    page = client.get("/problems").text
    assert all(f'href="{kind.type}"' in page for kind in KINDS.values())


def test_markup_is_escaped_and_code_is_shown(client: TestClient) -> None:
    page = client.get("/problems/invalid-range").text
    assert "<code>0 &lt;= start &lt; end &lt;= frame_count</code>" in page


def test_an_unknown_kind(client: TestClient) -> None:
    answer = client.get("/problems/nope")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-problem")
