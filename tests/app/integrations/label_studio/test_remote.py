from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.integrations.label_studio.remote import LabelStudio, RemoteError
from app.problems import Problem

TOKEN = "0123456789abcdef"
FILE = "/data/upload/1/0a1b2c3d-clip.mp4"


@pytest.fixture
def other(label_studio: Any) -> Iterator[Any]:
    """A second server, as a storage elsewhere would be."""
    found = type(label_studio)()
    yield found
    found.close()


def test_a_legacy_token_goes_along_as_it_is(label_studio: Any) -> None:
    remote = LabelStudio(label_studio.url + "/", TOKEN)
    assert remote.call("GET", "/api/projects/1/")["id"] == 1
    assert b"".join(remote.media(FILE, 7)) == label_studio.files[FILE]
    assert {given for _, _, given in label_studio.seen} == {f"Token {TOKEN}"}


def test_a_personal_token_is_exchanged_and_the_short_one_kept_until_it_ends(label_studio: Any) -> None:
    refresh = jwt(exp=time.time() + 9999)
    label_studio.refresh = refresh
    remote = LabelStudio(label_studio.url, refresh)
    for _ in range(2):
        remote.call("GET", "/api/projects/1/")
    assert [path for _, path, _ in label_studio.seen] == ["/api/token/refresh", "/api/projects/1/", "/api/projects/1/"]
    assert label_studio.seen[-1][2] == f"Bearer {label_studio.access}"
    label_studio.access = jwt(exp=time.time() + 5)  # about to end
    remote = LabelStudio(label_studio.url, refresh)
    for _ in range(2):
        remote.call("GET", "/api/projects/1/")
    assert [path for _, path, _ in label_studio.seen].count("/api/token/refresh") == 3
    label_studio.access = "not a token at all"
    assert LabelStudio(label_studio.url, refresh).call("GET", "/api/projects/1/")["id"] == 1


def test_a_token_that_is_not_taken_is_named(label_studio: Any) -> None:
    with pytest.raises(RemoteError, match="Check the access token") as refused:
        LabelStudio(label_studio.url, "wrong").call("GET", "/api/projects/1/")
    assert refused.value.status == 401
    label_studio.refresh = jwt(exp=1)
    remote = LabelStudio(label_studio.url, jwt(exp=2))
    with pytest.raises(RemoteError, match="expired"):
        remote.call("GET", "/api/projects/1/")
    with pytest.raises(Problem, match="expired"):
        list(remote.media(FILE, 7))


def test_the_token_never_leaves_for_another_host(label_studio: Any, other: Any) -> None:
    other.files["/elsewhere.mp4"] = b"bytes"
    label_studio.redirects["/data/upload/1/moved.mp4"] = f"{other.url}/elsewhere.mp4?signature=x"
    remote = LabelStudio(label_studio.url, TOKEN, media_hosts=(f"127.0.0.1:{other.port}",))
    assert b"".join(remote.media("/data/upload/1/moved.mp4", 7)) == b"bytes"
    assert b"".join(remote.media(f"{other.url}/elsewhere.mp4", 7)) == b"bytes"
    assert [given for _, _, given in other.seen] == [None, None]
    assert label_studio.seen[0][2] == f"Token {TOKEN}"


def test_media_inside_the_network_is_refused_but_for_label_studio_itself(label_studio: Any, other: Any) -> None:
    other.files["/secret"] = b"secret"
    label_studio.redirects["/data/upload/1/moved.mp4"] = f"{other.url}/secret"
    remote = LabelStudio(label_studio.url, TOKEN)
    for value in (f"{other.url}/secret", "/data/upload/1/moved.mp4", "http://169.254.169.254/latest/meta-data"):
        with pytest.raises(Problem, match="inside a network"):
            list(remote.media(value, 7))
    assert other.seen == []


@pytest.mark.parametrize(
    ("base", "value", "address"),
    [
        ("http://ls", "/data/a.mp4", "http://ls/data/a.mp4"),
        ("http://ls/", "data/a.mp4", "http://ls/data/a.mp4"),
        ("http://ls/tool", "/data/a.mp4", "http://ls/tool/data/a.mp4"),
        ("http://ls/tool", "/tool/data/a.mp4", "http://ls/tool/data/a.mp4"),
        ("http://ls", "//evil.example/a.mp4", "http://ls/evil.example/a.mp4"),
        ("http://ls", "https://cdn.example/a.mp4?x=1", "https://cdn.example/a.mp4?x=1"),
        ("http://ls", "/data/local-files/?d=a/b.mp4", "http://ls/data/local-files/?d=a/b.mp4"),
    ],
)
def test_where_a_file_lies(base: str, value: str, address: str) -> None:
    assert LabelStudio(base, TOKEN).media_url(value, 7) == address


def test_a_clouds_object_goes_through_label_studio() -> None:
    encoded = base64.urlsafe_b64encode(b"s3://bucket/a.mp4").decode()
    assert (
        LabelStudio("http://ls", None).media_url("s3://bucket/a.mp4", 7)
        == f"http://ls/tasks/7/presign/?fileuri={encoded}"
    )


def test_what_has_no_address_says_what_to_set() -> None:
    for value in ("/data/a.mp4", "s3://bucket/a.mp4"):
        with pytest.raises(Problem, match="LABELPROP_LABEL_STUDIO_URL"):
            LabelStudio(None, None).media_url(value, 7)
    with pytest.raises(Problem, match="not from file"):
        LabelStudio("http://ls", None).media_url("file:///etc/passwd", 7)
    with pytest.raises(RemoteError, match="--ls-url"):
        LabelStudio(None, None).call("GET", "/api/projects/1/")


def test_pages_are_read_to_the_end(label_studio: Any) -> None:
    label_studio.tasks = {number: {"id": number} for number in range(1, 8)}
    remote = LabelStudio(label_studio.url, TOKEN)
    assert [entry["id"] for entry in remote.pages("/api/tasks", {"project": 1}, page_size=3)] == list(range(1, 8))


def test_a_server_that_is_none_is_named(label_studio: Any) -> None:
    label_studio.files["/api/projects/1/"] = b"<html>"
    with pytest.raises(RemoteError, match="not JSON"):
        LabelStudio(label_studio.url, TOKEN).call("GET", "/api/projects/1/")
    label_studio.close()
    with pytest.raises(RemoteError, match="does not answer"):
        LabelStudio(label_studio.url, TOKEN).call("GET", "/api/projects/1/")
    with pytest.raises(RemoteError, match="does not answer"):
        LabelStudio(label_studio.url, jwt(exp=1)).call("GET", "/api/projects/1/")


def jwt(**claims: Any) -> str:
    import json

    parts = ({"alg": "none"}, claims, {"signature": True})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
