"""What all documents on the wire share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.problems import FieldFault


class Document(BaseModel):
    """A document that a caller sends: unknown fields, NaN and values of the wrong type are refused, not guessed at."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Answer(BaseModel):
    """A document that the service sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def pointer_of(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901) from pydantic's location of a fault."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def faults_of(error: ValidationError, prefix: str = "") -> list[FieldFault]:
    """The faults of a document, each with its pointer and a sentence; never the value itself, which may be large.

    Args:
        error: what pydantic raised.
        prefix: a pointer to put before each, such as `/spec`.
    """
    return [FieldFault(prefix + pointer_of(fault["loc"]), sentence_of(fault)) for fault in error.errors(**_QUIET)]


def sentence_of(fault: Any) -> str:
    """One of pydantic's faults as a sentence that says what to do."""
    return _ADVICE.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").rstrip(".") + "."


_QUIET: dict[str, Any] = {"include_url": False, "include_input": False, "include_context": True}
_ADVICE = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no field of this name. Remove it, or check its spelling.",
    "finite_number": "Must be a finite number: NaN and Infinity are refused.",
}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters or line breaks")
    return text


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True),
    AfterValidator(_printable),
    Field(examples=["dog"]),
]
"""A name that a person gives: one line, 1 to 100 characters."""
