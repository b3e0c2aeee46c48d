"""The part of YAML that lists of classes are written in, as `data.yaml` has them, without PyYAML's time at every start.

Read are mappings and lists, indented or in brackets, of words, numbers and quoted texts, with comments. What stands
under a key that nobody asked for is passed over where it is indented. Anchors, aliases, tags and texts over several
lines are refused: nothing is read in another way than YAML means it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any, NamedTuple

from app.formats.reading import bad

_QUOTED = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^']|'')*'"
_KEY = re.compile(rf"({_QUOTED}|[^\s\[\]{{}},:#&*!|>%@`'\"-][^:#]*?|-?[0-9]+)\s*:(?=\s|$)\s*")
_PLAIN = r"(?:[^\s\[\]{},:'\"]|:(?=\S))(?:[^\[\]{},:]|:(?=\S))*"
_TOKEN = re.compile(rf"\s*(?:({_QUOTED})|([\[\]{{}},])|(:)(?=[\s,\[\]{{}}]|$)|({_PLAIN}))")
_LONGEST = 10_000
_DEEPEST = 10


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def parse_classes(text: str, where: str, wanted: Container[str]) -> dict[str, Any]:
    """The values of the wanted keys at the top of a document.

    Args:
        text: the document.
        where: what to call it in messages.
        wanted: the keys; others are passed over.

    Raises:
        InputError: `bad-annotations`, naming the line.
    """
    reader = _Reader(text, where)
    if reader.lines and reader.lines[0].text.startswith("{"):
        document = reader.flow(0)
        return {key: value for key, value in document.items() if key in wanted}
    return reader.mapping(0, wanted)


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.at = 0
        self.lines: list[_Line] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if len(line) > _LONGEST:
                raise self.fault(_Line(number, 0, line), f"more than {_LONGEST} characters")
            content = _without_comment(line).rstrip()
            if content.strip() and content.strip() not in ("---", "..."):
                self.lines.append(_Line(number, len(content) - len(content.lstrip()), content.strip()))

    def fault(self, line: _Line, what: str) -> Exception:
        return bad(f"{self.where}, line {line.number}: {what}. Write `names:` and a list of the classes, one a line.")

    def mapping(self, depth: int, wanted: Container[str] | None = None) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        indent = self.lines[self.at].indent if self.lines else 0
        while self.at < len(self.lines) and self.lines[self.at].indent >= indent:
            line = self.lines[self.at]
            key = _KEY.match(line.text)
            if line.indent > indent or key is None:
                raise self.fault(line, f"{line.text[:40]!r} is no `key: value`")
            name = self.scalar(key[1], line)
            if wanted is not None and name not in wanted:
                self.skip(indent)
                continue
            if name in found:
                raise self.fault(line, f"{name!r} stands twice")
            found[name] = self.value(line.text[key.end() :], depth)
        return found

    def skip(self, indent: int) -> None:
        """Passes over an entry: its line, and all that is indented further or is a list below it."""
        self.at += 1
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.indent < indent or (line.indent == indent and line.text[0] not in "-]}"):
                return
            self.at += 1

    def value(self, text: str, depth: int) -> Any:
        line = self.lines[self.at]
        if depth > _DEEPEST:
            raise self.fault(line, "this is nested too deep")
        if text[:1] in ("[", "{"):
            self.lines[self.at] = line._replace(text=text)
            return self.flow(depth)
        self.at += 1
        below = self.lines[self.at] if self.at < len(self.lines) else None
        if text:
            if below is not None and below.indent > line.indent:
                raise self.fault(below, "a text over several lines is not read")
            return self.scalar(text, line)
        if below is not None and _is_item(below.text) and below.indent >= line.indent:
            return self.items(depth + 1)
        if below is not None and below.indent > line.indent:
            return self.mapping(depth + 1)
        return None

    def items(self, depth: int) -> list[Any]:
        found = []
        indent = self.lines[self.at].indent
        while self.at < len(self.lines) and self.lines[self.at].indent == indent and _is_item(self.lines[self.at].text):
            line = self.lines[self.at]
            text = line.text[1:].strip()
            if _KEY.match(text) or _is_item(text) or not text:
                raise self.fault(line, "an entry of this list is no name")
            found.append(self.value(text, depth))
        return found

    def flow(self, depth: int) -> Any:
        """A value in brackets, which may go on over lines."""
        first = self.lines[self.at]
        tokens: list[tuple[str, str]] = []
        level = 0
        while True:
            if self.at == len(self.lines):
                raise self.fault(first, "a bracket is not closed")
            line = self.lines[self.at]
            self.at += 1
            position = 0
            while position < len(line.text):
                found = _TOKEN.match(line.text, position)
                if found is None:
                    raise self.fault(line, f"{line.text[position : position + 20]!r} is not understood")
                position = found.end()
                kind = ("quoted", "mark", "colon", "plain")[(found.lastindex or 1) - 1]
                tokens.append((kind, found[found.lastindex or 1].strip()))
                level += (kind == "mark") * (tokens[-1][1] in "[{") - (kind == "mark") * (tokens[-1][1] in "]}")
            if level <= 0:
                break
        tokens.reverse()
        value = self.flow_value(tokens, first, depth)
        if tokens:
            raise self.fault(first, "something stands behind the closing bracket")
        return value

    def flow_value(self, tokens: list[tuple[str, str]], line: _Line, depth: int) -> Any:
        if not tokens or depth > _DEEPEST:
            raise self.fault(line, "a bracket is not closed, or this is nested too deep")
        kind, text = tokens.pop()
        if kind in ("plain", "quoted"):
            return self.scalar(text, line)
        if text not in "[{" or kind != "mark":
            raise self.fault(line, f"{text!r} stands where a value should")
        closing = "]" if text == "[" else "}"
        found: list[tuple[Any, Any]] = []
        while tokens and tokens[-1] != ("mark", closing):
            key = self.flow_value(tokens, line, depth + 1)
            if text == "{":
                if not tokens or tokens.pop() != ("colon", ":") or isinstance(key, list | dict):
                    raise self.fault(line, "a `key: value` is missing its colon")
                found.append((key, self.flow_value(tokens, line, depth + 1)))
            else:
                found.append((len(found), key))
            if tokens and tokens[-1] == ("mark", ","):
                tokens.pop()
            elif tokens and tokens[-1] != ("mark", closing):
                raise self.fault(line, "a comma is missing")
        if not tokens:
            raise self.fault(line, "a bracket is not closed")
        tokens.pop()
        return dict(found) if text == "{" else [value for _, value in found]

    def scalar(self, text: str, line: _Line) -> Any:
        text = text.strip()
        if text.startswith("'"):
            if len(text) < 2 or not re.fullmatch(_QUOTED, text):
                raise self.fault(line, f"{text[:40]!r} is not closed")
            return text[1:-1].replace("''", "'")
        if text.startswith('"'):
            try:
                return str(json.loads(text))
            except ValueError:
                raise self.fault(line, f"{text[:40]!r} is no text in quotes") from None
        if text[:1] in tuple("&*!|>%@`?") or text.endswith(":") or ": " in text:
            raise self.fault(line, f"{text[:40]!r} is more YAML than is read here")
        if re.fullmatch(r"[-+]?[0-9]{1,9}", text):
            return int(text)
        return text


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _without_comment(line: str) -> str:
    quote, before = "", " "
    escaped = False
    for k, character in enumerate(line):
        if quote:
            # A doubled single quote closes and opens again, which comes to the same.
            if character == quote and not escaped:
                quote = ""
            escaped = quote == '"' and character == "\\" and not escaped
        elif character in "'\"" and (before.isspace() or before in "[{,:"):
            quote = character
        elif character == "#" and before.isspace():
            return line[:k]
        before = character
    return line
