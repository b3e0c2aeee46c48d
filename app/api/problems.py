"""`/problems/{slug}`: what an error means."""

from __future__ import annotations

import html
import re

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.api.errors import problems
from app.problems import KINDS, Problem

router = APIRouter(prefix="/problems", tags=["problems"])

_CODE = re.compile(r"`([^`]+)`")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} · Labelprop</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#222}}
code{{background:#f2f2f2;padding:.1em .3em;border-radius:3px}}small{{color:#666}}</style>
<h1>{title}</h1><p><small>HTTP {status} · <code>{slug}</code></small></p>{body}
<p><a href="/problems">All problems</a> · <a href="/docs">The API</a></p></html>
"""


@router.get("", operation_id="list_problems", summary="All kinds of problems", response_class=HTMLResponse)
def list_problems() -> HTMLResponse:
    """A page that lists every kind of error."""
    rows = "".join(
        f'<li><a href="{kind.type}">{html.escape(kind.title)}</a>'
        f" <small>{kind.status} <code>{kind.slug}</code></small></li>"
        for kind in KINDS.values()
    )
    return HTMLResponse(_PAGE.format(title="Problems", status="4xx and 5xx", slug="*", body=f"<ul>{rows}</ul>"))


@router.get(
    "/{slug}",
    operation_id="get_problem",
    summary="What a problem means",
    response_class=HTMLResponse,
    responses=problems("unknown-problem", "invalid-request"),
)
def get_problem(slug: str) -> HTMLResponse:
    """A page that explains one kind of error; every error's `type` leads here."""
    kind = KINDS.get(slug)
    if kind is None:
        raise Problem("unknown-problem", "There is no kind of problem of this name. `/problems` lists them.")
    paragraphs = html.escape(kind.explanation, quote=False).split("\n\n")
    body = "".join("<p>" + _CODE.sub(r"<code>\1</code>", text) + "</p>" for text in paragraphs)
    return HTMLResponse(_PAGE.format(title=html.escape(kind.title), status=kind.status, slug=kind.slug, body=body))
