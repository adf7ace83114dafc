"""A small model runs on one thread in our own processes, and leaves the library's users theirs."""

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from av_grounding import Grounder
from av_grounding.backends import economy
from av_grounding.config import drawn_world_bundle


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_for_a_small_model(two_threads):
    grounder = Grounder.load(drawn_world_bundle(), "torch", "cpu")
    assert torch.get_num_threads() == 2
    economy.settle_threads(grounder.backend)
    assert torch.get_num_threads() == 1


def test_numpy_s_products_take_one_thread(two_threads):
    grounder = Grounder.load(drawn_world_bundle(), "torch", "cpu")
    with threadpool_limits(2, user_api="blas"):
        economy.settle_threads(grounder.backend)
        after = [one for one in threadpool_info() if one["user_api"] == "blas"]
    assert {one["num_threads"] for one in after if "torch" not in one["filepath"]} == {1}


def test_a_large_model_and_the_environment_keep_theirs(two_threads, monkeypatch):
    grounder = Grounder.load(drawn_world_bundle(), "torch", "cpu")
    monkeypatch.setattr(economy, "SMALL_NUM_PARAMETERS", 1000)
    economy.settle_threads(grounder.backend)
    assert torch.get_num_threads() == 2
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    economy.settle_threads(grounder.backend)
    assert torch.get_num_threads() == 2
