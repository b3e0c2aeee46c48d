"""A video's kept features, with the encoder's place taken by a passage's own inputs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.kept import KeptFeatures
from model.video import FrameTable


@pytest.fixture
def table() -> FrameTable:
    """Forty frames at 25 a second."""
    return FrameTable(np.arange(40, dtype=np.int64), np.ones(40, np.bool_), Fraction(1, 25))


@pytest.fixture
def kept(tmp_path: Path, table: FrameTable) -> Callable[..., KeptFeatures]:
    """Kept features in this test's own folder; every call opens them as another process would."""

    def features(max_bytes: int = 1 << 24, **other: Any) -> KeptFeatures:
        of: dict[str, Any] = {"video_sha256": "1" * 64, "table": table, "model_sha256": "2" * 64}
        return KeptFeatures(other.pop("folder", tmp_path / "features"), max_bytes, **{**of, **other})

    return features
