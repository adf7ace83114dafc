"""The recipe of sampled instruments: drawn conditions, masks of what dominates, and silence."""

import numpy as np
import pytest
import torch

from av_grounding.everyday import corpus
from av_grounding.modeling.separator import SeparatingConfig, SeparatingEncoder
from av_grounding.training.data.instrument_batches import InstrumentBatches
from av_grounding.training.recipes.instruments import (
    NOBODY,
    InstrumentsConfig,
    SeparateInstruments,
)

NOUNS = ("cello", "drum", "flute", "harp")
RATE_HZ, NUM_SAMPLES = 16_000, 20_480


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Each instrument is a tone of its own here; what is said, a chirp."""
    folder = tmp_path_factory.mktemp("phrases")
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    for number, noun in enumerate(NOUNS):
        tone = 12_000 * np.sin(2 * np.pi * 400 * (number + 1) * time_s)
        np.save(folder / f"{noun}.npy", np.stack([tone, tone / 2]).astype(np.int16))
    said = (8_000 * np.sin(2 * np.pi * 900 * time_s**2)).astype(np.int16)
    shard = corpus.CorpusShard(
        said, np.array([0, len(said)]), np.array([[0, 10]]), np.array([0]), ("dog",)
    )
    corpus._save(folder / "speech.npz", shard)
    return InstrumentBatches(
        folder, NOUNS, [folder / "speech.npz"], num_samples=NUM_SAMPLES, batch_size=24
    )


@pytest.fixture
def recipe():
    torch.manual_seed(0)
    model = SeparatingEncoder(
        SeparatingConfig(
            image_options={"dim": 16},
            audio_options={"dim": 16, "num_mels": 32, "widths": [4, 4, 8, 8]},
            head_dim=len(NOUNS),
            evidence=False,
            image_aligner="classes",
            image_aligner_options={"num_classes": 6},
            audio_aligner="prototypes",
            embedding_dim=0,
        )
    )
    aligner = model.image_aligner
    aligner.groups.data[range(4), range(4)] = 1.0
    # The classifier holds a cello for a flute, and a flute for a cello.
    aligner.classify.weight.data[2] = 0.5 * aligner.classify.weight[2] + aligner.classify.weight[0]
    return SeparateInstruments(model, InstrumentsConfig())


def test_a_batch_depends_on_its_number_alone_and_holds_what_it_says(batches):
    batch, again = batches[3], batches[3]
    assert torch.equal(batch["mixture"], again["mixture"])
    assert not torch.equal(batch["mixture"], batches[4]["mixture"])
    nouns, sources = (
        torch.cat([batches[number][name] for number in range(4)]) for name in ("nouns", "sources")
    )
    level = sources.square().mean(dim=-1).sqrt()
    assert (level[nouns >= 0] > 0.03).all()
    assert all(len({*row.tolist()} - {-1}) == (row >= 0).sum() for row in nouns)
    counts = (nouns >= 0).sum(dim=1)
    assert {0, 2, 3} == set(counts.tolist())
    assert (level[counts == 0][:, 2] > 0.03).all()
    rest = batch["mixture"] - batch["sources"].sum(dim=1)
    assert (rest.square().mean(dim=-1).sqrt() < 0.03).all()


def test_every_trained_parameter_gets_a_gradient_and_the_classifier_none(batches, recipe):
    terms = recipe(batches[0], 0)
    assert set(terms) == {"separation", "naming", "evidence"}
    sum(terms.values()).backward()
    for name, parameter in recipe.model.named_parameters():
        if name.startswith(("image_backbone", "image_aligner")):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name


def test_conditions_look_like_a_classifiers_answer(recipe):
    nouns = torch.tensor([[0, 3, NOBODY]]).repeat(400, 1)
    conditions = recipe.conditions(nouns)
    torch.testing.assert_close(conditions.norm(dim=-1), torch.ones(400, 3))
    assert (conditions >= 0).all()
    right = conditions[:, :2].argmax(dim=-1) == nouns[:, :2]
    assert 0.6 < right.float().mean() < 1.0  # some are taken for others, as in photographs
    mistaken = conditions[:, 0].clone()
    mistaken[:, 0] = 0.0
    assert (mistaken.argmax(dim=-1) == 2).float().mean() > 0.8
    assert (conditions[:, 2].argmax(dim=-1).bincount(minlength=4) > 40).all()


def test_what_is_silent_is_never_in_the_mixture_and_seldom_looks_like_it(recipe):
    drawn = recipe.silent_nouns(torch.tensor([[0, 3, -1]]).repeat(400, 1))[:, 0]
    counts = torch.bincount(drawn + 1, minlength=5).tolist()
    assert counts[1] == counts[4] == 0
    assert counts[0] > 60
    assert counts[2] > 10 * max(counts[3], 1)


def test_a_bin_belongs_to_what_exceeds_all_else(recipe):
    time_s = torch.arange(NUM_SAMPLES) / RATE_HZ
    low, high = (torch.sin(2 * torch.pi * hz * time_s) for hz in (400.0, 3000.0))
    sources = torch.stack([low, 0.5 * high, torch.zeros_like(low)])[None]
    target, weight = recipe.mask_targets(sources, sources.sum(dim=1))
    power = recipe.model.audio_backbone.log_mel.power
    bands = [int(power(one[None])[0].mean(dim=-1).argmax()) for one in (low, high)]
    middle = target[0, :, :, 10:50]
    for own, other in ((0, 1), (1, 0)):
        assert middle[own, bands[own]].all()
        assert not middle[own, bands[other]].any()
    assert not target[0, 2].any()
    assert weight.shape == (1, 1, *target.shape[2:])
    assert weight[0, 0, bands[0]].mean() > 5 * weight[0, 0, bands[1] + 4].mean()


def test_it_learns_which_tone_an_instrument_is(batches, recipe):
    optimizer = torch.optim.Adam([p for p in recipe.parameters() if p.requires_grad], 5e-3)
    losses = []
    for step in range(30):
        loss = sum(recipe(batches[step % 6], step).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.75 * losses[0]
