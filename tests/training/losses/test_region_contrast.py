import math

import pytest
import torch

from av_grounding.training.losses.objectives import info_nce
from av_grounding.training.losses.region_contrast import (
    drawn_mixtures,
    micl,
    msa_micl,
    region_scores,
)


def gradient_of(loss, scores):
    scores = scores.clone().requires_grad_()
    value = loss(scores)
    return value.detach(), torch.autograd.grad(value, scores)[0]


def test_without_mixing_it_is_twice_info_nce_with_its_gradient():
    scores = 3.0 * torch.randn(7, 7, dtype=torch.float64)
    ours = gradient_of(lambda x: msa_micl(x, torch.arange(7)), scores)
    theirs = gradient_of(lambda x: 2.0 * info_nce(x), scores)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(micl(scores), ours[0])
    allowed = torch.rand(7, 7) > 0.4
    torch.testing.assert_close(micl(scores, allowed), 2.0 * info_nce(scores, allowed))


def test_the_positives_of_a_mixture_stand_inside_the_logarithm():
    # By hand: images 0 and 2 share sound 0, image 1 has sound 1.
    x = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.0, 0.25]], dtype=torch.float64)
    e = x.exp()
    of_sounds = -math.log((e[0, 0] + e[2, 0]) / e[:, 0].sum()) - math.log(e[1, 1] / e[:, 1].sum())
    of_images = -sum(math.log(e[i, k] / e[i].sum()) for i, k in ((0, 0), (1, 1), (2, 0)))
    expected = torch.tensor((of_sounds + of_images) / 3, dtype=torch.float64)
    torch.testing.assert_close(msa_micl(x, torch.tensor([0, 1, 0])), expected)
    # One image that explains the mixture is enough: the other may score as it likes.
    sure = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [-20.0, -40.0]])
    assert msa_micl(sure, torch.tensor([0, 1, 0])) < 1e-6


def test_pairs_that_match_by_chance_are_no_negatives_and_positives_stay():
    scores = torch.randn(4, 2)
    mixture = torch.tensor([0, 1, 1, 0])
    none = msa_micl(scores, mixture, torch.zeros(4, 2, dtype=torch.bool))
    torch.testing.assert_close(none, torch.tensor(0.0))


def test_a_sound_of_no_image_is_refused():
    with pytest.raises(ValueError, match="2 sounds, of which one belongs to no image"):
        msa_micl(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64))


def test_padding_is_out_of_the_maximum_even_where_all_cosines_are_negative():
    regions = -torch.eye(3)[None].repeat(2, 1, 1)
    sounds = torch.eye(3)[:1]
    regions[0, :, 2] = 0.0  # padding
    valid = torch.tensor([[True, False, False], [True, True, True]])
    torch.testing.assert_close(
        region_scores(regions, valid, sounds), torch.tensor([[-1.0], [0.0]])
    )


def test_a_batch_is_mixed_in_pairs_as_a_whole_or_not_at_all():
    mixture = drawn_mixtures(8, 1.0, seed=3, step=5)
    assert torch.bincount(mixture).tolist() == [2, 2, 2, 2]
    assert torch.bincount(drawn_mixtures(7, 1.0, 0, 0)).tolist() == [2, 2, 2, 1]
    assert drawn_mixtures(8, 0.0, 3, 5) is None
    drawn = [drawn_mixtures(8, 0.5, 3, step) for step in range(400)]
    assert 0.4 < sum(one is not None for one in drawn) / 400 < 0.6
    # Ranks agree on whether, and pair their own clips.
    others = [drawn_mixtures(8, 0.5, 3, step, rank=1) for step in range(400)]
    assert [one is None for one in drawn] == [one is None for one in others]
    both = [(a, b) for a, b in zip(drawn, others, strict=True) if a is not None]
    assert not all(torch.equal(a, b) for a, b in both)
    torch.testing.assert_close(drawn_mixtures(8, 1.0, 3, 5), mixture)
