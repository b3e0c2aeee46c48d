from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from app.multipart import MemorySink, read_form
from app.problems import Problem


def request(body: Iterable[bytes], boundary: bytes = b"bound") -> Request:
    """A request whose body arrives in these pieces."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict:
        return messages.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=" + boundary)]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)  # type: ignore[arg-type]


def form(parts: dict[str, bytes], boundary: bytes = b"bound") -> bytes:
    head = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: a/b\r\n\r\n'
    body = b"".join(head % (boundary, name.encode()) + data + b"\r\n" for name, data in parts.items())
    return body + b"--" + boundary + b"--\r\n"


def read(body: Iterable[bytes], *names: str, max_bytes: int = 1 << 20) -> dict[str, bytes]:
    sinks = {name: MemorySink(name, max_bytes) for name in names}
    seen = asyncio.run(read_form(request(body), sinks))
    assert all(sinks[name].complete for name in seen)
    return {name: bytes(sinks[name].data) for name in seen}


@settings(max_examples=60, deadline=None)
@given(
    first=st.binary(max_size=200)
    | st.sampled_from([b"\r\n--boun", b"--bound", b"\r\n--bound x", b"\r\n\r\n", b"-" * 50]),
    second=st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 500), max_size=8),
)
def test_parts_arrive_whole_however_the_body_is_cut(first: bytes, second: bytes, cuts: list[int]) -> None:
    if b"\r\n--bound" in first or first.startswith(b"--bound"):
        first = first.replace(b"--bound", b"--other")
    body = form({"video": first, "spec": second})
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]
    if b"\r\n--bound" in second or second.startswith(b"--bound"):
        return
    assert read(pieces, "video", "spec", "mask") == {"video": first, "spec": second}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    refused = None
    try:
        read([b"--bound" + body], "video")
    except Problem as problem:
        refused = problem.kind.slug
    assert refused in (None, "invalid-multipart")


@pytest.mark.parametrize("length", range(0, 150, 7))
def test_a_form_that_is_cut_off_is_refused(length: int) -> None:
    body = form({"video": b"abcdef"})
    with pytest.raises(Problem) as caught:
        read([body[: min(length, len(body) - 5)]], "video")
    assert caught.value.kind.slug == "invalid-multipart"


def test_a_small_part_is_bounded() -> None:
    with pytest.raises(Problem) as caught:
        read([form({"spec": b"x" * 11})], "spec", max_bytes=10)
    assert caught.value.kind.slug == "request-too-large"
    assert "`spec`" in caught.value.detail


@pytest.mark.parametrize(("parts", "word"), [({"film": b""}, "'film'"), ({"": b""}, "''")])
def test_unknown_parts_are_named_with_those_that_are_known(parts: dict, word: str) -> None:
    with pytest.raises(Problem) as caught:
        read([form(parts)], "video", "mask")
    assert word in caught.value.detail
    assert "`video`, `mask`" in caught.value.detail
