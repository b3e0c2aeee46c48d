"""Rendered clips for the benchmarks' tests, and a check that bad input is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from model.errors import InputError
from model.rendered import RenderedClip, render_clip


@pytest.fixture(scope="session")
def clips() -> tuple[RenderedClip, RenderedClip]:
    """Two clips of different sizes and lengths, with both objects on their first frames."""
    return (
        render_clip(width=64, height=48, frame_count=9),
        render_clip(width=72, height=56, frame_count=6, seed=1),
    )


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Calls something that must end in an `InputError` which says all of the given words."""

    def check(call: Callable[..., Any], *arguments: Any, says: tuple[str, ...] | str) -> None:
        with pytest.raises(InputError) as caught:
            call(*arguments)
        for word in (says,) if isinstance(says, str) else says:
            assert word in caught.value.detail

    return check
