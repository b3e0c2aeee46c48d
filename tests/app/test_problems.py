from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.problems import KINDS, FieldFault, InvalidDocument, Problem, problem_document
from model.errors import InputError, LabelError, MediaError, ModelError

ROOT = Path(__file__).parents[2]
RAISED = re.compile(
    r"""(?:slug\s*=\s*|default_slug[^=\n]*=\s*|Problem\(\s*|problem_document\(\s*|faults\.add\(\s*)["']([a-z][a-z0-9-]+)["']"""
)


def test_every_slug_that_is_raised_stands_in_the_table() -> None:
    raised = {
        slug: path
        for folder in ("app", "model", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for slug in RAISED.findall(path.read_text())
    }
    assert len(raised) > 30, "the pattern finds what is raised"
    assert {slug: str(path) for slug, path in raised.items() if slug not in KINDS} == {}


@pytest.mark.parametrize("kind", [InputError, MediaError, LabelError, ModelError])
def test_default_slugs_stand_in_the_table(kind: type[InputError]) -> None:
    assert Problem.of(kind("x")).kind.slug == kind.default_slug


@pytest.mark.parametrize("slug", sorted(KINDS))
def test_each_kind_is_complete(slug: str) -> None:
    kind = KINDS[slug]
    assert kind.slug == slug
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug)
    assert 400 <= kind.status < 600
    assert kind.title
    assert not kind.title.endswith(".")
    assert kind.explanation.endswith(".") or "`" in kind.explanation
    assert kind.type == f"/problems/{slug}"


def test_a_document_has_the_members_of_rfc_9457() -> None:
    problem = Problem("video-in-use", "Two jobs.", errors=[FieldFault("/a", "b")], jobs=["j_1", "j_2"])
    assert problem.document() == {
        "type": "/problems/video-in-use",
        "title": "Jobs are at work on this video",
        "status": 409,
        "detail": "Two jobs.",
        "errors": [{"pointer": "/a", "detail": "b"}],
        "jobs": ["j_1", "j_2"],
    }


def test_errors_are_left_out_where_there_are_none() -> None:
    assert "errors" not in problem_document("not-found", "x")


def test_an_error_with_a_pointer_becomes_a_field_fault() -> None:
    problem = Problem.of(LabelError("Too small.", slug="empty-mask", pointer="/mask"))
    assert (problem.kind.status, problem.errors) == (422, (FieldFault("/mask", "Too small."),))


def test_a_slug_that_is_not_in_the_table_is_still_an_answer_below_500() -> None:
    assert Problem.of(InputError("x", slug="from-a-plugin")).kind.slug == "invalid-input"


def test_faults_of_one_kind_keep_their_slug_and_mixed_ones_do_not() -> None:
    one = [InputError("a", slug="bad-box", pointer="/a"), InputError("b", slug="bad-box", pointer="/b")]
    assert InvalidDocument(one).slug == "bad-box"
    mixed = InvalidDocument([*one, InputError("c", slug="bad-rle", pointer="/c")])
    assert mixed.slug == "invalid-request"
    assert [fault.pointer for fault in mixed.errors] == ["/a", "/b", "/c"]
    assert "3 faults" in mixed.detail
