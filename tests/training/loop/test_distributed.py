"""Two processes with B samples each against one with 2 B: real processes, real collectives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from av_grounding.training.loop import curves
from av_grounding.training.loop.distributed import gather_with_gradient, num_ranks, own_rows, rank
from av_grounding.training.loop.loop import train
from tests.helpers.two_ranks import LOOP, NUM_LOCAL, RECIPES, Contrast, Samples, first_gradients

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.two_ranks", str(directory)],
            env=os.environ | common | {"RANK": str(number), "LOCAL_RANK": str(number)},
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    results = [torch.load(directory / f"result_{n}.pt", weights_only=True) for n in range(2)]
    return directory, results


def assert_same_gradients(result, whole, rtol=1e-5):
    assert len(whole["gradients"]) > 10
    for name, value in whole["terms"].items():
        torch.testing.assert_close(result["terms"][name], value, rtol=rtol, atol=1e-6)
    for name, value in whole["gradients"].items():
        torch.testing.assert_close(result["gradients"][name], value, rtol=rtol, atol=rtol)
        scale = value.abs().max()
        assert (result["gradients"][name] - value).abs().max() <= 1e-4 * scale + 1e-7, name


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_over_two_ranks_equals_one_process_with_the_whole_batch(
    two_ranks, tmp_path, recipe
):
    whole = first_gradients(2 * NUM_LOCAL, tmp_path, recipe)
    for result in two_ranks[1]:
        # Masks of many bins and transport's repeated exponentials round by more than the others.
        rtol = 5e-5 if recipe in ("oneavm", "oassl") else 1e-5
        assert_same_gradients(result[recipe], whole, rtol)


def test_loss_and_gradients_equal_one_process_with_the_whole_batch(two_ranks, tmp_path):
    _, results = two_ranks
    whole = first_gradients(2 * NUM_LOCAL, tmp_path)
    for result in results:
        assert_same_gradients(result, whole)
    # Negatives of the other rank count: alone, half the batch has another loss.
    half = first_gradients(NUM_LOCAL, tmp_path)
    assert abs(half["terms"]["contrast"] - whole["terms"]["contrast"]) > 0.01


def test_a_signal_to_one_rank_stops_both_and_the_resumed_run_equals_one_process(
    two_ranks, tmp_path
):
    directory, results = two_ranks
    for result in results:
        message, exit_code = result["stopped"]
        assert message.startswith(("stopped at step 2 of 5", "stopped at step 3 of 5"))
        assert exit_code == 0
    train(Contrast(), Samples(2 * NUM_LOCAL), LOOP, tmp_path)
    rows = [curves.read_log(d / "log.jsonl") for d in (directory / "run", tmp_path)]
    assert rows[0]["step"] == rows[1]["step"] == [0, 1, 2, 3, 4]
    for name in ("loss", "contrast", "splice", "grad_norm"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3), name
    for name, value in results[0]["weights"].items():
        assert torch.equal(value, results[1]["weights"][name]), name


def test_ranks_with_different_shapes_are_refused(two_ranks):
    for result in two_ranks[1]:
        assert "(2, 1), (3, 1); expected one shape" in result["refusal"]


def test_alone_nothing_is_gathered():
    tensor = torch.ones(2, 3, requires_grad=True)
    assert gather_with_gradient(tensor) is tensor
    assert (num_ranks(), rank(), own_rows(4)) == (1, 0, slice(0, 4))
