"""Losses of paper 004 beside alignment's transport: masks, OCA, LVS's contrast, by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from av_grounding.training.losses import object_aware

AXES = torch.eye(3)


def test_masks_are_the_papers_sigmoids_as_weights():
    similarity = torch.tensor([[0.9, 0.66, 0.65, 0.4, 0.1]])
    plain = torch.sigmoid((similarity - 0.65) / 0.03)
    weights = object_aware.positive_weights(similarity, 0.65, 0.03)
    torch.testing.assert_close(weights, plain / plain.sum(), rtol=1e-5, atol=1e-7)
    assert weights[0, 2] / weights[0, 0] == pytest.approx(0.5, abs=1e-3)
    plain = 1.0 - torch.sigmoid((similarity - 0.4) / 0.03)
    weights = object_aware.negative_weights(similarity, 0.4, 0.03)
    torch.testing.assert_close(weights, plain / plain.sum(), rtol=1e-4, atol=1e-6)


def test_masks_do_not_vanish_far_from_their_thresholds():
    # The sigmoid itself is 4e-10 at a similarity of 0, and 0 in half precision.
    similarity = torch.tensor([[0.0, -0.01, -0.9]], dtype=torch.float16, requires_grad=True)
    weights = object_aware.positive_weights(similarity, 0.65, 0.03)
    assert weights.dtype == torch.float32
    assert weights.sum().item() == pytest.approx(1.0)
    ratio = (weights[0, 1] / weights[0, 0]).item()
    assert ratio == pytest.approx(math.exp(-0.01 / 0.03), rel=2e-2)
    weights[0, 0].backward()
    assert similarity.grad[0, :2].abs().min() > 0.1


def test_masked_features_have_the_direction_of_the_papers_pooling():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(2, 4, 9, generator=generator)
    similarity = 0.5 + 0.3 * torch.rand(2, 9, generator=generator)
    mask = torch.sigmoid((similarity - 0.65) / 0.03)
    printed = (cells * mask[:, None]).mean(dim=2)
    mean = object_aware.masked_mean(cells, object_aware.positive_weights(similarity, 0.65, 0.03))
    torch.testing.assert_close(F.normalize(mean), F.normalize(printed), atol=1e-5, rtol=1e-5)


def test_foreground_alignment_by_hand():
    positive = torch.stack([AXES[0], AXES[1]])
    negative = torch.stack([AXES[1], AXES[2]])
    text = torch.stack([AXES[0] + AXES[1], AXES[1]])
    s = math.sqrt(0.5)
    # Own, what is left of the image, the other image's sounding part.
    first = -math.log(math.exp(s) / (math.exp(s) + math.exp(s) + math.exp(s)))
    second = -math.log(math.e / (math.e + 1.0 + 1.0))
    everybody = ~torch.eye(2, dtype=torch.bool)
    loss = object_aware.foreground_alignment(positive, negative, text, everybody)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    # A false negative leaves the denominator, the hard negative of the same image stays.
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    loss = object_aware.foreground_alignment(positive, negative, text, nobody)
    assert loss.item() == pytest.approx((math.log(2) - math.log(math.e / (math.e + 1))) / 2)


def test_only_texts_look_for_images():
    # One direction, as printed: a text that no image answers costs its own row alone.
    positive, text = torch.stack([AXES[0], AXES[0]]), torch.stack([AXES[0], AXES[1]])
    negative = torch.stack([AXES[2], AXES[2]])
    loss = object_aware.foreground_alignment(
        positive, negative, text, ~torch.eye(2, dtype=torch.bool), temperature=0.1
    )
    rows = [-math.log(math.exp(10) / (2 * math.exp(10) + 1)), math.log(3)]
    assert loss.item() == pytest.approx(sum(rows) / 2, abs=1e-4)


def test_background_alignment_has_one_negative_and_skips_unknown_captions():
    positive = torch.stack([AXES[0], AXES[0], AXES[1]])
    negative = torch.stack([AXES[1], AXES[1], AXES[0]])
    text = torch.stack([AXES[1], AXES[1], AXES[1]])
    known = torch.tensor([True, True, False])
    loss = object_aware.background_alignment(positive, negative, text, known)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.0)), abs=1e-6)
    none = torch.zeros(3, dtype=torch.bool)
    assert object_aware.background_alignment(positive, negative, text, none).item() == 0.0


def test_false_negatives_by_the_papers_threshold():
    similarity = torch.tensor([[1.0, 0.71, 0.7], [0.2, 1.0, 0.69], [0.9, 0.9, 1.0]])
    expected = torch.tensor([[False, False, True], [True, False, True], [False, False, False]])
    assert torch.equal(object_aware.true_negatives(similarity, 0.7), expected)


def test_the_localising_contrast_prefers_the_own_sound_and_skips_shared_classes():
    similarity = torch.zeros(2, 2, 4)
    similarity[0, 0] = similarity[1, 1] = torch.tensor([0.9, 0.0, 0.0, 0.0])
    options = {"thresholds": (0.65, 0.4), "width": 0.03, "temperature": 0.07}
    everybody = ~torch.eye(2, dtype=torch.bool)
    good = object_aware.localising_contrast(similarity, everybody, **options)
    # Own mean is 0.9, the negatives' are 0.
    assert good.item() == pytest.approx(math.log(1 + 2 * math.exp(-0.9 / 0.07)), abs=1e-4)
    similarity[0, 1] = similarity[1, 0] = torch.tensor([0.9, 0.0, 0.0, 0.0])
    confused = object_aware.localising_contrast(similarity, everybody, **options)
    assert confused.item() == pytest.approx(math.log(2), abs=1e-3)
    # Sound 0 fits image 1 as well; no sound but its own fits image 0.
    similarity[0, 1] = 0.0
    one_way = object_aware.localising_contrast(similarity, everybody, **options)
    both = object_aware.localising_contrast(similarity, everybody, **options, is_symmetric=True)
    assert one_way.item() == pytest.approx(0.5 * math.log(2), abs=1e-3)
    assert both.item() == pytest.approx(0.5 * math.log(2), abs=1e-3)
    similarity[1, 0], similarity[0, 1] = 0.0, similarity[1, 1]
    swapped = object_aware.localising_contrast(similarity, everybody, **options, is_symmetric=True)
    assert swapped.item() == pytest.approx(both.item(), abs=1e-4)
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    shared = object_aware.localising_contrast(similarity, nobody, **options)
    assert shared.item() < 1e-4
