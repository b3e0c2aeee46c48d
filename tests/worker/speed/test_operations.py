from __future__ import annotations

import torch

from model.checkpoint import Checkpoint
from model.geometry import Grid
from worker.speed.operations import encoder_operations, matrix_rate, operations_of


def test_the_encoder_is_counted_from_its_shapes(checkpoint: Checkpoint) -> None:
    count = encoder_operations(checkpoint, Grid.fit(64, 48, 480))
    cells = 6 * 8
    first = 7 * 7 * 3 * 64 * 16 * cells
    layer1 = 4 * 9 * 64 * 64 * 4 * cells
    layer2 = (9 * 64 * 128 + 3 * 9 * 128 * 128 + 64 * 128) * cells
    layer3 = (9 * 128 * 256 + 3 * 9 * 256 * 256 + 128 * 256) * cells
    assert count == 2 * (first + layer1 + layer2 + layer3)
    assert encoder_operations(checkpoint, Grid.fit(128, 48, 480)) == 2 * count
    assert next(checkpoint.encoder.parameters()).device.type == "cpu"  # it is counted on a copy


def test_products_are_counted_however_they_are_called() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    with torch.inference_mode():
        assert operations_of(lambda: (a @ b, torch.mm(a, b, out=torch.empty(3, 5)))) == 2 * 2 * 3 * 4 * 5


def test_the_matrix_rate_is_measured(one_thread: None) -> None:
    assert matrix_rate(torch.device("cpu"), torch.float32, side=64) > 1e6
