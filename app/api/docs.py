"""`/docs`: the API on one page, made from the OpenAPI document. It loads nothing from anywhere else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} API</title>
<style>
body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
details{{border:1px solid #ddd;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}}
details details{{border-color:#eee}}
summary{{cursor:pointer}} summary small{{color:#666;margin-left:.6rem}}
b.method{{display:inline-block;min-width:4.2rem;font:600 13px ui-monospace,monospace}}
code,pre{{font:13px/1.45 ui-monospace,monospace;background:#f5f5f5;border-radius:4px}} code{{padding:.1em .3em}}
pre{{padding:.6rem;overflow:auto}} table{{border-collapse:collapse}}
td,th{{text-align:left;padding:.15rem .8rem .15rem 0}}
.get{{color:#1565c0}}.post{{color:#2e7d32}}.delete{{color:#c62828}} h2{{margin-top:2rem;text-transform:capitalize}}
</style>
<h1>{title} <small>{version}</small></h1>{description}
<p><a href="/openapi.json">OpenAPI document</a> · <a href="/problems">All problems</a></p>
{body}</html>
"""


@router.get("/docs", include_in_schema=False)
def get_docs(request: Request) -> HTMLResponse:
    """The page."""
    document = request.app.openapi()
    info = document["info"]
    page = _PAGE.format(
        title=html.escape(info["title"]),
        version=html.escape(info["version"]),
        description=_prose(info["description"]),
        body="".join(_groups(document)),
    )
    return HTMLResponse(page)


def _groups(document: dict[str, Any]) -> Iterator[str]:
    tag = None
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{html.escape(tag)}</h2>"
            yield _operation(document, method, path, operation)
    yield "<h2>schemas</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<details id="{name}"><summary><code>{name}</code></summary>{_json(schema)}</details>'


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [_prose(operation["description"]), _parameters(operation.get("parameters", ()))]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{html.escape(kind)}</code>{_linked(content)}</p>")
        parts += [_json(example["value"]) for example in content.get("examples", {}).values()]
    for status, answer in operation["responses"].items():
        contents = answer.get("content", {})
        inner = "".join(
            f"<p><code>{html.escape(kind)}</code>{_linked(content)}</p>{_example(document, content)}"
            for kind, content in contents.items()
        )
        meaning = html.escape(answer.get("description", ""))
        parts.append(f"<details><summary>{html.escape(status)} {meaning}</summary>{inner}</details>")
    return (
        f'<details id="{operation["operationId"]}"><summary><b class="method {method}">{method.upper()}</b>'
        f"<code>{html.escape(path)}</code><small>{html.escape(operation['summary'])}</small></summary>"
        + "".join(parts)
        + "</details>"
    )


def _parameters(parameters: Any) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
        f"<td>{html.escape(_type(parameter['schema']))}</td>"
        f"<td>{html.escape(parameter.get('description', ''))}</td></tr>"
        for parameter in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    default = "" if schema.get("default") is None else f" = {schema['default']}"
    return f"{schema.get('type', '')}{default}"


def _linked(content: dict[str, Any]) -> str:
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    return f' <a href="#{name}">{name}</a>' if name else ""


def _example(document: dict[str, Any], content: dict[str, Any]) -> str:
    if "examples" in content:  # of problems: one line each
        rows = "".join(
            f'<li><a href="/problems/{slug}"><code>{slug}</code></a> {html.escape(example["summary"])}</li>'
            for slug, example in content["examples"].items()
        )
        return f"<ul>{rows}</ul>"
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    examples = document["components"]["schemas"].get(name, {}).get("examples")
    return _json(examples[0]) if examples else ""


def _json(value: Any) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=1, ensure_ascii=False), quote=False)}</pre>"


def _prose(text: str) -> str:
    paragraphs = html.escape(text.strip(), quote=False).split("\n\n")
    return "".join("<p>" + re.sub(r"`([^`]+)`", r"<code>\1</code>", paragraph) + "</p>" for paragraph in paragraphs)
