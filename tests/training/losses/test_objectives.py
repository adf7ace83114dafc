import math

import pytest
import torch
from torch.autograd import gradcheck

from av_grounding.training.losses import objectives, regularizers

INF = float("inf")


def test_info_nce_by_hand():
    scores = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    rows = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))]
    columns = [math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-2.0))]
    expected = 0.5 * (sum(rows) / 2 + sum(columns) / 2)
    assert objectives.info_nce(scores).item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_leaves_out_pairs_that_are_no_negatives():
    scores = torch.tensor([[1.0, 50.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.5]])
    valid = torch.ones(3, 3, dtype=torch.bool)
    valid[0, 1] = False
    assert objectives.info_nce(scores).item() > 10
    assert objectives.info_nce(scores, valid).item() < 1
    # The positives count even where the mask says otherwise.
    assert torch.isfinite(objectives.info_nce(scores, torch.zeros(3, 3, dtype=torch.bool)))


def test_info_nce_wants_as_many_clips_as_images():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        objectives.info_nce(torch.zeros(2, 3))


def test_soft_pooling_hardens_into_the_maximum():
    volume = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    hard = objectives.pool_space(volume, INF)
    torch.testing.assert_close(hard, volume.amax(dim=-1))
    torch.testing.assert_close(
        objectives.pool_space(volume, 1e-6), volume.mean(dim=-1), atol=1e-4, rtol=1e-4
    )
    gaps = [(hard - objectives.pool_space(volume, s)).max().item() for s in (1.0, 5.0, 50.0)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.05


def test_peaks_equal_the_volume_written_out():
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(3, 2, 4, 5, generator=generator)
    image = torch.randn(3, 2, 4, 6, generator=generator)
    peaks = objectives.pair_peaks(audio, image, INF)
    expected = max(float(audio[2, 1, :, 4] @ image[0, 1, :, n]) for n in range(6))
    assert peaks.shape == (2, 3, 3, 5)
    assert peaks[1, 2, 0, 4].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(objectives.head_max_peaks(audio, image, INF), peaks.amax(dim=0))


def test_time_is_a_plain_mean_or_weighted_by_evidence():
    peaks = torch.tensor([[[0.2, 0.6, 0.0]]])
    assert objectives.pool_time(peaks).item() == pytest.approx(0.8 / 3)
    evidence = torch.tensor([[0.3, 0.7, 0.0]])
    assert objectives.pool_time(peaks, evidence, 1.0).item() == pytest.approx(0.8 / 2.0)


def test_gradients_in_double_precision():
    generator = torch.Generator().manual_seed(2)
    audio = torch.randn(3, 2, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    image = torch.randn(3, 2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)

    def loss(a, v):
        volume = torch.einsum("ikct,jkcn->kijtn", a, v)
        return objectives.info_nce(
            objectives.pool_time(objectives.pool_space(volume.amax(0), 3.0))
        )

    assert gradcheck(loss, (audio, image))


def test_regularizers_by_hand():
    volume = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]], [[0.5, 1.0], [-1.0, 4.0]]]])
    assert regularizers.disentanglement(volume).item() == pytest.approx((0.5 + 2 + 3 + 0) / 4)
    assert regularizers.disentanglement(volume[:, :1]).item() == 0
    assert regularizers.non_negative(volume).item() == pytest.approx((4 + 1) / 8)
    steps = [(3 - 1) ** 2, (0 + 2) ** 2, (-1 - 0.5) ** 2, (4 - 1) ** 2]
    assert regularizers.total_variation(volume).item() == pytest.approx(sum(steps) / 4)
    # Only the second token is foreign: mean of 3^2, 0, (-1)^2, 4^2.
    mask = torch.tensor([[0.0, 1.0]])
    assert regularizers.splice(volume, mask).item() == pytest.approx(26 / 4)
    assert regularizers.splice(volume, torch.zeros(1, 2)).item() == 0
    assert regularizers.calibration(torch.tensor(-1.5)).item() == pytest.approx(2.25)
    assert regularizers.calibration(torch.tensor(2.0)).item() == 0


def test_three_heads_overlap_is_the_mean_over_pairs():
    volume = torch.zeros(1, 3, 1, 1)
    volume[0, :, 0, 0] = torch.tensor([1.0, 2.0, -3.0])
    assert regularizers.disentanglement(volume).item() == pytest.approx((2 + 3 + 6) / 3)


def test_correspondence_and_disentanglement_are_sums_over_both_kinds():
    sound = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    speech = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    rows = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))]
    columns = [math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-2.0))]
    expected = 0.25 * (sum(rows) + sum(columns)) + math.log(1 + math.exp(-0.5))
    for objective in (objectives.correspondence, objectives.disentanglement):
        assert objective(sound, speech).item() == pytest.approx(expected, abs=1e-6)
        # Each kind has its own mask: without negatives, only the other one's loss is left.
        none = torch.eye(2, dtype=torch.bool)
        alone = objective(sound, speech, sound_valid=none).item()
        assert alone == pytest.approx(math.log(1 + math.exp(-0.5)), abs=1e-6)


def test_time_mean_over_the_audible_part():
    peaks = torch.tensor([[[0.2, 0.6, 9.0]], [[1.0, 2.0, 3.0]]])
    audible = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = objectives.masked_time_mean(peaks, audible)
    assert found.flatten().tolist() == pytest.approx([0.4, 0.0])
    whole = objectives.masked_time_mean(peaks, torch.ones(2, 3))
    torch.testing.assert_close(whole, objectives.pool_time(peaks))


def test_global_scores_are_inner_products_per_head():
    audio = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])
    image = torch.tensor([[[3.0, 1.0], [5.0, 7.0]], [[0.0, 0.0], [1.0, -1.0]]])
    assert objectives.global_scores(audio, image).tolist() == [[[5.0, 0.0]], [[7.0, -1.0]]]


def test_extras_of_the_released_code_by_hand():
    volume = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]], [[0.5, 1.0], [-1.0, 4.0]]]])
    audible = torch.tensor([[1.0, 0.0]])
    assert regularizers.silence(volume, audible).item() == pytest.approx((3 + 0 + 1 + 4) / 4)
    assert regularizers.silence(volume, torch.ones(1, 2)).item() == 0
    own = torch.tensor([[1.0, 0.0]])  # the second cell comes from another image
    assert regularizers.foreign_cells(volume, own).item() == pytest.approx((4 + 0 + 1 + 16) / 4)
    assert regularizers.foreign_cells(volume, torch.ones(1, 2)).item() == 0


def test_sampled_similarities_are_entries_of_the_volume_over_all_pairs():
    generator = torch.Generator().manual_seed(4)
    audio = torch.randn(3, 2, 4, 5, generator=generator)
    image = torch.randn(3, 2, 4, 6, generator=generator)
    every = torch.einsum("ikct,jkcn->ijktn", audio, image).flatten()
    found = regularizers.sampled_similarities(audio, image, 250, generator)
    assert found.shape == (250,)
    nearest = (found[:, None] - every).abs().amin(dim=1)
    assert nearest.max() < 1e-5
    assert len(found.unique()) > 150


def test_regularizers_gradients_in_double_precision():
    generator = torch.Generator().manual_seed(5)
    volume = torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(2, 3, dtype=torch.float64, generator=generator)
    own = torch.rand(2, 4, dtype=torch.float64, generator=generator)
    for term in (
        regularizers.disentanglement,
        regularizers.non_negative,
        regularizers.total_variation,
        lambda v: regularizers.splice(v, weight),
        lambda v: regularizers.silence(v, weight),
        lambda v: regularizers.foreign_cells(v, own),
    ):
        assert gradcheck(term, (volume,))
    log_gamma = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(regularizers.calibration, (log_gamma,))
