from __future__ import annotations

import io

import pytest

from app.formats.cvat_xml import Element, parse
from model.errors import LabelError

BOMB = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;&x;&x;">]>
<annotations>&y;</annotations>"""
FILE = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<a>&x;</a>'


def elements(text: str | bytes) -> list[Element]:
    found: list[Element] = []
    parse(io.BytesIO(text.encode() if isinstance(text, str) else text), lambda element: None, found.append)
    return found


def test_elements_come_with_their_lines_and_text() -> None:
    found = elements('<?xml version="1.0" encoding="utf-8"?>\n<a b="&lt;1">x\n<c>ü &amp; y</c></a>')
    assert [(e.name, e.attributes, e.line, e.text) for e in found] == [
        ("c", {}, 3, "ü & y"),
        ("a", {"b": "<1"}, 2, "x\n"),
    ]


@pytest.mark.parametrize("text", [BOMB, FILE, '<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><a/>', "<!DOCTYPE a><a/>"])
def test_document_types_and_entities_are_refused(text: str) -> None:
    with pytest.raises(LabelError, match=r"Line \d: it declares a document type"):
        elements(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<a>\n<b></a>", "Line 2: this is not well-formed XML"),
        ("", "Line 1: this is not well-formed"),
        ("<a>&unknown;</a>", "Line 1: this is not well-formed"),
        (b"\x00\xff\xfe", "not well-formed"),
        ("<a>" * 40, "nested too deeply"),
        ("<a>" + "x" * (2 << 20) + "</a>", "too long"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "Line 1: "),
        ('<?xml version="1.0" encoding="base64"?><a/>', "Line 1: "),
    ],
)
def test_what_is_no_xml_names_its_line(text: str | bytes, says: str) -> None:
    with pytest.raises(LabelError, match=says):
        elements(text)
