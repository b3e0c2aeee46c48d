from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from model.channels import ChannelSet
from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject
from model.localisation import Localiser, nearest, search

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS, COLUMNS = 12, 20


def _localiser(*labels: Label) -> Localiser:
    objects = [LabelObject(label.object, "thing", (255, 0, 0)) for label in labels]
    grid = Grid.fit(COLUMNS * 8, ROWS * 8, ROWS * 8)
    return Localiser(ChannelSet(objects, [Anchor(0, labels)], grid))


def _region(object: int) -> Label:
    return Label(object, np.ones((ROWS * 8, COLUMNS * 8), bool))


class TestPlaces:
    def test_mean_and_box_of_a_region(self) -> None:
        values = torch.zeros(1, ROWS, COLUMNS)
        values[0, 2:7, 4:13] = 1.0
        assert _localiser(_region(1)).places(values).tolist() == [[4, 8, 2, 6, 4, 12]]

    def test_cells_with_little_of_the_object_do_not_count(self) -> None:
        values = torch.zeros(1, ROWS, COLUMNS)
        values[0, 2:7, 2:7] = 1.0
        values[0, 11, 17:20] = 0.45
        assert _localiser(_region(1)).places(values).tolist() == [[4, 4, 2, 6, 2, 6]]

    def test_an_object_that_is_nowhere_has_no_place(self) -> None:
        values = torch.zeros(2, ROWS, COLUMNS)
        values[0, 3, 3], values[1, 5, 5] = 0.2, 0.8
        places = _localiser(_region(1), _region(2)).places(values)
        assert places[0].isnan().all()
        assert places[1].tolist() == [5, 5, 5, 5, 5, 5]

    def test_keypoints_alone_are_a_place_however_thin_their_maps(self) -> None:
        points = (Keypoint("a", 20.0, 20.0), Keypoint("b", 100.0, 60.0))
        localiser = _localiser(Label(1, None, keypoints=points))
        values = torch.zeros(2, ROWS, COLUMNS)
        values[0, 2, 3], values[1, 8, 13] = 0.5, 0.15
        assert localiser.places(values)[0, 2:].tolist() == [2, 8, 3, 13]

    def test_keypoints_of_an_object_with_a_region_do_not_count(self) -> None:
        label = Label(1, np.ones((ROWS * 8, COLUMNS * 8), bool), keypoints=(Keypoint("a", 20.0, 20.0),))
        localiser = _localiser(label)
        values = torch.zeros(2, ROWS, COLUMNS)
        values[0, 2:4, 2:4], values[1, 10, 18] = 1.0, 1.0
        assert localiser.places(values)[0, 2:].tolist() == [2, 3, 2, 3]


class TestNearest:
    def test_a_tile_belongs_to_the_object_beside_it(self) -> None:
        places = torch.tensor([[4.0, 4, 2, 6, 2, 6], [4, 30, 2, 6, 28, 32]])
        assert nearest(places, 8, 1, 5).tolist() == [[0, 0, 1, 1, 1]]

    def test_a_small_object_before_a_large_one_keeps_its_tiles(self) -> None:
        places = torch.tensor([[16.0, 16, 0, 31, 0, 31], [12, 12, 8, 15, 8, 15]])
        tiles = nearest(places, 8, 4, 4)
        assert tiles[1, 1] == 1
        assert (tiles == 1).sum() == 1

    def test_an_object_that_is_nowhere_owns_nothing(self) -> None:
        places = torch.tensor([[torch.nan] * 6, [4, 4, 2, 6, 2, 6]])
        assert (nearest(places, 8, 3, 3) == 1).all()
        assert (nearest(places[:1], 8, 3, 3) == 0).all()


class TestSearch:
    def _frame(self, seed: int = 0) -> torch.Tensor:
        return F.normalize(torch.randn(ROWS, COLUMNS, 32, generator=torch.Generator().manual_seed(seed)), dim=-1)

    def test_objects_that_moved_far_are_found_where_they_are(self) -> None:
        reference, query = self._frame(), self._frame(1)
        shares = torch.zeros(2, ROWS, COLUMNS)
        shares[0, 1:5, 1:6] = 1.0
        query[7:11, 12:17] = reference[1:5, 1:6]
        shares[1, 8:11, 2:5] = 0.8
        query[1:4, 14:17] = reference[8:11, 2:5]
        found = search(query, reference, shares)
        assert found.moved.tolist() == [[6, 11], [-7, 12]]
        assert found.agreement.tolist() == [1, 1]

    def test_more_cells_than_are_looked_at(self) -> None:
        reference, query = self._frame(), self._frame(1)
        shares = torch.zeros(1, ROWS, COLUMNS)
        shares[0, :, :12] = 1.0
        query[:, 4:16] = reference[:, :12]
        found = search(query, reference, shares)
        assert found.moved.tolist() == [[0, 4]]
        assert found.agreement.tolist() == [1]

    def test_one_that_is_not_there_is_not_agreed_on(self) -> None:
        shares = torch.zeros(1, ROWS, COLUMNS)
        shares[0, 1:5, 1:6] = 1.0
        assert search(self._frame(1), self._frame(), shares).agreement < 0.3

    def test_an_empty_share_finds_nothing(self) -> None:
        assert search(self._frame(1), self._frame(), torch.zeros(1, ROWS, COLUMNS)).agreement.tolist() == [0]

    def test_many_objects_are_found_as_each_alone_and_in_bounded_memory(self) -> None:
        reference, query, most = self._frame(), self._frame(1), _LargestProduct()
        shares = torch.zeros(240, ROWS, COLUMNS)
        shares.view(240, -1).fill_diagonal_(1.0)
        query[:, 3:] = reference[:, :-3]
        with most:
            found = search(query, reference, shares)
        assert most.elements <= 1024 * ROWS * COLUMNS
        for number in (0, 17, 18, 239):
            alone = search(query, reference, shares[number : number + 1])
            assert torch.equal(found.moved[number], alone.moved[0])
            assert torch.equal(found.agreement[number], alone.agreement[0])
        assert found.moved[0].tolist() == [0, 3]


class _LargestProduct(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mm.default:
            self.elements = max(self.elements, result.numel())
        return result
