"""Reading foreign XML as a stream of elements, each with its line. Document types and entities are refused.

A file that declares a DOCTYPE can make a parser read other files, fetch addresses or expand a few bytes to gigabytes.
No annotation needs one, so the first sign of it ends the reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.parsers import expat

from model.errors import LabelError

_CHUNK = 1 << 16
_MAX_DEPTH = 32
_MAX_TEXT = 1 << 20


@dataclass
class Element:
    """One element.

    Attributes:
        name: its name.
        attributes: its attributes.
        line: where it starts, counting from 1.
        text: what stands directly in it, complete at its end.
    """

    name: str
    attributes: dict[str, str]
    line: int
    text: str = field(default="")


def parse(file: BinaryIO, start: Callable[[Element], None], end: Callable[[Element], None]) -> None:
    """Calls `start` at every element's start and `end`, with the same object, at its end.

    Raises:
        LabelError: `bad-annotations`, naming the line, for what is no well-formed XML, for a document type, for
            elements nested deeper than any annotation needs, and for a text of more than a megabyte.
    """
    parser = expat.ParserCreate()
    stack: list[Element] = []

    def on_start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) >= _MAX_DEPTH:
            raise bad(parser.CurrentLineNumber, "elements are nested too deeply for an annotation")
        stack.append(Element(name, attributes, parser.CurrentLineNumber))
        start(stack[-1])

    def on_end(_: str) -> None:
        end(stack.pop())

    def on_text(text: str) -> None:
        if stack:
            if len(stack[-1].text) + len(text) > _MAX_TEXT:
                raise bad(stack[-1].line, f"the text of <{stack[-1].name[:40]}> is too long")
            stack[-1].text += text

    def refuse(*_: object) -> int:
        raise bad(parser.CurrentLineNumber, "it declares a document type or entities, which are refused. Remove them")

    parser.buffer_text = True
    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = on_text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        while chunk := file.read(_CHUNK):
            parser.Parse(chunk)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise bad(error.lineno, f"this is not well-formed XML ({reason})") from None
    except (LookupError, ValueError) as error:
        if isinstance(error, LabelError):
            raise
        # An encoding that Python does not know, or one that is no text encoding.
        raise bad(parser.CurrentLineNumber, "its encoding is not one that can be read; save it as UTF-8") from None


def bad(line: int, detail: str) -> LabelError:
    """The error of a line."""
    return LabelError(f"Line {line}: {detail}.", slug="bad-annotations")
