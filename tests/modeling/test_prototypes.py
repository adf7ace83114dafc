"""Prototypes: tokens are posteriors times an evidence, and a thing can be added untrained."""

import torch

from av_grounding.modeling.prototypes import PrototypeAligner


def aligner():
    torch.manual_seed(0)
    return PrototypeAligner(8, 5, dim=6)


def test_channels_of_a_token_sum_to_its_evidence():
    module, features = aligner(), torch.randn(2, 8, 7)
    tokens = module(features)
    assert tokens.shape == (2, 5, 7)
    assert (tokens >= 0).all()
    evidence = module.evidence_logits(features).sigmoid()
    torch.testing.assert_close(tokens.sum(dim=1), evidence)


def test_logits_are_scaled_cosines():
    logits = aligner().logits(torch.randn(2, 8, 7))
    assert logits.abs().max() <= 16.0001


def test_an_added_thing_is_the_first_for_its_own_example_and_leaves_the_other_logits():
    module, features = aligner(), torch.randn(1, 8, 3)
    before = module.logits(features)
    example = module.embed(features)[0, :, 1]
    module.add(example[None])
    after = module.logits(features)
    assert after.shape == (1, 6, 3)
    torch.testing.assert_close(after[:, :5], before)
    torch.testing.assert_close(after[0, 5, 1], torch.tensor(16.0))
    assert after[0, :, 1].argmax() == 5
