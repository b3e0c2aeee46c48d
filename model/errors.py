"""Errors that the caller can act on.

Each carries a `slug` (a stable name for the kind of fault), a `detail` (one or two sentences that say what to do) and,
where the fault lies in a document, a JSON `pointer` into it. The service turns them into RFC 9457 problems one to one.
"""

from __future__ import annotations

from typing import ClassVar


class InputError(ValueError):
    """The caller's input cannot be used. Nothing that was stored before is affected.

    Attributes:
        slug: kebab-case name of the kind of fault, stable across versions.
        detail: what is wrong and what to do about it, in plain words.
        pointer: JSON pointer (RFC 6901) to the faulty field, or None.
    """

    default_slug: ClassVar[str] = "invalid-input"

    def __init__(self, detail: str, *, slug: str | None = None, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.slug = slug or self.default_slug
        self.pointer = pointer


class MediaError(InputError):
    """A video, folder or archive of images that cannot be used."""

    default_slug = "not-a-video"


class LabelError(InputError):
    """A label (mask, polygon, box, keypoint) that cannot be used."""

    default_slug = "invalid-labels"


class ModelError(InputError):
    """A checkpoint or preset that is unknown or cannot be read."""

    default_slug = "unknown-model"
