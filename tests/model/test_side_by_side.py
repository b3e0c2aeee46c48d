from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from model.side_by_side import Crew, set_threads


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = set_threads(1)
    yield
    set_threads(before)


def test_what_comes_out_is_in_order_whoever_is_done_first() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert Crew(3).each(slow_at_first, range(6)) == [0, 1, 4, 9, 16, 25]


def test_as_many_threads_as_were_chosen_each_of_which_uses_one_core() -> None:
    set_threads(2)
    crew, meeting = Crew(), threading.Barrier(2)

    def meet(item: int) -> tuple[str, int]:
        meeting.wait(timeout=10)  # would break if there was one thread alone
        return threading.current_thread().name, torch.get_num_threads()

    names, cores = zip(*crew.each(meet, range(2)), strict=True)
    assert len(set(names)) == 2
    assert set(cores) == {1}
    assert threading.current_thread().name not in names


def test_one_thread_or_one_item_is_the_callers() -> None:
    here = threading.current_thread()
    assert Crew().each(lambda item: threading.current_thread(), [1, 2]) == [here, here]
    assert Crew(4).each(lambda item: threading.current_thread(), [1]) == [here]
    assert Crew(4).each(lambda item: item, []) == []


def test_no_more_threads_than_the_interpreter_can_serve() -> None:
    set_threads(64)
    assert Crew().threads == 8
    set_threads(0)
    assert Crew().threads == 1


def test_errors_reach_the_caller() -> None:
    def fail(item: int) -> None:
        if item == 1:
            raise ValueError("the second")

    with pytest.raises(ValueError, match="the second"):
        Crew(2).each(fail, range(4))


@pytest.mark.parametrize("inference", [False, True])
def test_tensors_are_made_as_in_the_callers_thread(inference: bool) -> None:
    with torch.inference_mode(inference):
        made = Crew(2).each(lambda item: torch.zeros(item), [1, 2])
    assert [tensor.is_inference() for tensor in made] == [inference, inference]
