from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model.evaluation.metrics import boundary, boundary_f, dilate, jaccard, pck

from ... import by_the_book


def patches(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    side = int(rng.integers(1, 12))
    coarse = rng.random((height // side + 1, width // side + 1)) > rng.random()
    return np.kron(coarse, np.ones((side, side), bool))[:height, :width]


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))
seeds = st.tuples(st.integers(0, 10_000), st.integers(0, 10_000))


@given(sizes, seeds, st.sampled_from([0.0, 0.008, 0.05, 0.3]))
@settings(max_examples=200, deadline=None)
def test_boundary_f_is_the_formula_by_distance_transform(
    size: tuple[int, int], seed: tuple[int, int], tolerance: float
) -> None:
    pred, truth = patches(seed[0], *size), patches(seed[1], *size)
    assert np.array_equal(boundary(pred), by_the_book.edges(pred))
    assert boundary_f(pred, truth, tolerance) == pytest.approx(
        by_the_book.boundary_f(pred, truth, tolerance), abs=1e-12
    )


@given(st.integers(0, 10_000), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_dilation_is_by_an_exact_disc(seed: int, radius: int) -> None:
    mask = np.random.default_rng(seed).random((33, 47)) < 0.004
    expected = ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask
    assert np.array_equal(dilate(mask, radius), expected)


def test_the_tolerance_at_480p_is_eight_pixels() -> None:
    truth, pred = np.zeros((480, 854), bool), np.zeros((480, 854), bool)
    truth[:, :400] = True
    pred[:, :408] = True
    assert boundary_f(pred, truth) == 1.0
    pred[:, :409] = True
    assert boundary_f(pred, truth) == 0.0


def test_empty_masks() -> None:
    nothing, something = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    something[3:5, 3:5] = True
    assert jaccard(nothing, nothing) == boundary_f(nothing, nothing) == 1.0
    assert jaccard(something, nothing) == boundary_f(something, nothing) == 0.0
    assert jaccard(nothing, something) == boundary_f(nothing, something) == 0.0


def test_jaccard_is_intersection_over_union() -> None:
    pred, truth = np.array([[True, True, False, False]]), np.array([[False, True, True, False]])
    assert jaccard(pred, truth) == 1 / 3
    assert jaccard(truth, truth) == 1.0


SQUARE = [[0.0, 0.0], [30.0, 0.0], [30.0, 40.0], [0.0, 40.0]]  # diagonal 50, so alpha 0.1 reaches 3 pixels


def moved(dx: float) -> list[list[float]]:
    return [[x + dx, y] for x, y in SQUARE]


def test_pck_counts_joints_within_alpha_of_the_boxs_diagonal() -> None:
    truth = [SQUARE, SQUARE, SQUARE]
    assert pck([moved(99), moved(2.9), moved(3.1)], truth, 0.1) == 0.5
    assert pck([moved(99), moved(2.9), moved(3.1)], truth, 0.2) == 1.0


def test_pck_leaves_out_the_first_frame_absent_joints_and_lone_joints() -> None:
    assert math.isnan(pck([SQUARE], [SQUARE], 0.1))
    lone = [SQUARE[0], None, None, None]
    partly = [SQUARE[0], None, SQUARE[2], None]
    assert pck([SQUARE, moved(99), SQUARE], [SQUARE, lone, partly], 0.1) == 1.0


def test_pck_counts_a_missing_prediction_as_wrong() -> None:
    one_missing = [None, *SQUARE[1:]]
    assert pck([SQUARE, one_missing], [SQUARE, SQUARE], 0.1) == 0.75
    assert pck([SQUARE], [SQUARE, SQUARE], 0.1) == 0.0
    assert pck([SQUARE, SQUARE[:2]], [SQUARE, SQUARE], 0.1) == 0.5
    assert pck({}, {"clip": [SQUARE, SQUARE]}, 0.1) == 0.0


def test_pck_averages_over_joints_after_pooling_the_clips() -> None:
    truth = {"a": [SQUARE, SQUARE], "b": [SQUARE, [*SQUARE[:2], None, None], [*SQUARE[:2], None, None]]}
    pred = {"a": [SQUARE, SQUARE], "b": [SQUARE, moved(99), moved(99)]}
    # Joints 0 and 1 are right once out of three times, joints 2 and 3 once out of once.
    assert pck(pred, truth, 0.2) == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)
