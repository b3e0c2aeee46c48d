"""Options of exports, and the names of what is built with them.

An export with options is another export than the one without: it has a name of its own, under which it is asked for,
built and kept. `overlay` is the plain one, `overlay;names=false;opacity=0.5` one with options.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from model.errors import InputError

if TYPE_CHECKING:
    from app.formats.base import Format

MAX_TOLERANCE = 100.0


@dataclass(frozen=True)
class ExportOptions:
    """How an export is drawn or simplified.

    Attributes:
        outline: draw the outline of regions.
        opacity: of the colour inside regions, 0 to 1, two decimals.
        names: write the objects' names.
        confidence: write the confidence.
        tolerance: how far polygons may be from the mask's outline, in pixels, two decimals; 0 is exact.
    """

    outline: bool = True
    opacity: float = 0.38
    names: bool = True
    confidence: bool = False
    tolerance: float = 0.5


DEFAULTS = ExportOptions()


def choose_options(format_: Format, given: Mapping[str, Any]) -> ExportOptions:
    """The options of an export.

    Args:
        format_: what is exported.
        given: values by name: booleans and numbers, or texts as they stand in addresses and on the command line.

    Raises:
        InputError: `invalid-request`, for an option that the format does not heed or a value that it cannot have.
    """
    for name in given:
        if name not in format_.options:
            heeded = ", ".join(f"`{option}`" for option in format_.options) or "none"
            detail = f"{format_.name!r} has no option {name[:100]!r}; its options: {heeded}."
            raise InputError(detail, slug="invalid-request", pointer=f"/query/{name[:100]}")
    return replace(DEFAULTS, **{name: _value(name, value) for name, value in given.items()})


def variant_name(format_: Format, options: ExportOptions) -> str:
    """The name of an export with these options: the format's own where they are the defaults."""
    return ";".join([format_.name, *(f"{name}={_text(value)}" for name, value in _changed(format_, options).items())])


def variant_filename(format_: Format, options: ExportOptions) -> str:
    """The name of its file in the store: no two variants share one."""
    if not _changed(format_, options):
        return format_.filename
    digest = hashlib.sha256(variant_name(format_, options).encode()).hexdigest()[:16]
    path = PurePosixPath(format_.filename)
    return f"{path.stem}-{digest}{path.suffix}"


def split_variant(name: str) -> tuple[str, dict[str, str]]:
    """The format's name and the options in a name that `variant_name` made."""
    format_name, *options = name.split(";")
    return format_name, parse_options(",".join(options))


def parse_options(text: str) -> dict[str, str]:
    """Options from `name=value,name=value`, as on the command line.

    Raises:
        InputError: `invalid-request`, for what is not of this form.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            detail = f"{part[:100]!r} is no option. Write name=value, several with commas: opacity=0.5,names=false."
            raise InputError(detail, slug="invalid-request")
        found[name.strip()] = value.strip()
    return found


def _changed(format_: Format, options: ExportOptions) -> dict[str, Any]:
    values = {field.name: getattr(options, field.name) for field in fields(options) if field.name in format_.options}
    return {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}


def _value(name: str, value: Any) -> Any:
    if isinstance(getattr(DEFAULTS, name), bool):
        texts = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        found = texts.get(str(value).lower())
        if found is None:
            raise _bad(name, "must be true or false")
        return found
    most = 1.0 if name == "opacity" else MAX_TOLERANCE
    try:
        number = float(value)
    except ValueError:
        raise _bad(name, "must be a number") from None
    if not 0 <= number <= most:
        raise _bad(name, f"must be from 0 to {most:g}")
    return round(number, 2) + 0.0  # -0.0 becomes 0.0


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _bad(name: str, what: str) -> InputError:
    return InputError(f"`{name}` {what}.", slug="invalid-request", pointer=f"/query/{name}")
