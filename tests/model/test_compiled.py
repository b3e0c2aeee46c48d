from __future__ import annotations

from typing import Any

import numpy as np

from model.compiled import compiled


@compiled
def _total(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def test_a_compiled_loop_gives_what_it_says() -> None:
    assert _total(np.array([1.0, 2.5])) == 3.5


def test_where_nothing_can_be_kept_on_disk_it_is_compiled_all_the_same() -> None:
    # There is no file that what was compiled could be kept for.
    made: dict[str, Any] = {}
    exec("def twice(value):\n    return 2 * value\n", made)
    assert compiled(made["twice"])(3) == 6
