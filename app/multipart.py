"""`multipart/form-data` read as it arrives: large parts go straight to where they are kept, small ones are bounded.

Starlette's own form parser spools every file to a temporary one first and sets no limit on files; this one neither
copies nor trusts. It is built on python-multipart's incremental parser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from app.problems import FieldFault, Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

BATCH = 1 << 20


class Sink(Protocol):
    """Where the bytes of one part go. It may raise `Problem` to refuse them."""

    def write(self, data: bytes) -> None:
        """Takes the next bytes."""

    def close(self) -> None:
        """Called once after the last byte."""


class MemorySink:
    """Keeps a small part in memory.

    Args:
        name: the part's name, for the error.
        max_bytes: refuse more than this many bytes.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self.name = name
        self.max_bytes = max_bytes
        self.data = bytearray()
        self.complete = False

    def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > self.max_bytes:
            raise Problem("request-too-large", f"`{self.name}` is larger than {self.max_bytes} bytes. Send less.")
        self.data += data

    def close(self) -> None:
        self.complete = True


async def batches(request: Request) -> AsyncIterator[bytes]:
    """The request's body in pieces of about a megabyte, so that each may be handed to a thread.

    Raises:
        Problem: `upload-incomplete` when the client goes away before the end.
    """
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) >= BATCH:
                yield bytes(held)
                held.clear()
    except ClientDisconnect:
        raise Problem("upload-incomplete", "The connection closed before the whole body had arrived.") from None
    if held:
        yield bytes(held)


async def read_form(request: Request, sinks: Mapping[str, Sink]) -> dict[str, str]:
    """Reads a multipart body, each part into the sink of its name.

    Args:
        request: whose `Content-Type` is `multipart/form-data` and whose body was not read yet.
        sinks: the parts that the call knows.

    Returns:
        The names of the parts that came, each with the file name that the client gave it, which may be empty.

    Raises:
        Problem: `invalid-multipart` for a malformed or cut-off body and for parts that are unknown or come twice;
            whatever a sink raises.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise _bad("The Content-Type names no boundary. Let your HTTP client set the header (`curl -F`).")
    reader = _Reader(sinks)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for batch in batches(request):
            await run_in_threadpool(parser.write, batch)
    except FormParserError as error:
        raise _bad(f"The body is not well-formed multipart: {error}") from None
    if not reader.ended:
        raise _bad("The body ends before its closing boundary.")
    return reader.seen


class _Reader:
    """The parser's callbacks. They run in a worker thread, one batch at a time."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self.seen: dict[str, str] = {}
        self.ended = False
        self._sinks = sinks
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._sink: Sink | None = None

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        known = ", ".join(f"`{known}`" for known in self._sinks)
        if name not in self._sinks:
            raise _bad(
                f"There is no part of the name {name[:100]!r}. This call takes: {known}.", pointer=f"/{name[:100]}"
            )
        if name in self.seen:
            raise _bad(f"The part `{name}` comes twice.", pointer=f"/{name}")
        self.seen[name] = options.get(b"filename", b"").decode("utf-8", "replace")
        self._sink = self._sinks[name]

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._sink is not None
        self._sink.write(data[start:end])

    def _part_end(self) -> None:
        assert self._sink is not None
        self._sink.close()
        self._sink = None

    def _end(self) -> None:
        self.ended = True


def _bad(detail: str, *, pointer: str | None = None) -> Problem:
    return Problem("invalid-multipart", detail, errors=[] if pointer is None else [FieldFault(pointer, detail)])
