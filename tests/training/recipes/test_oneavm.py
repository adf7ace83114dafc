"""The recipe of 003: its terms by hand, its gradients, its batches, a run that resumes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.training import runs
from av_grounding.training.configuration import DataConfig, OneAvmRun
from av_grounding.training.data.synthetic_batches import PartnerBatches
from av_grounding.training.initial import start_from
from av_grounding.training.loop.loop import LoopConfig
from av_grounding.training.losses import objectives
from av_grounding.training.material import build_banks
from av_grounding.training.recipes.oneavm import (
    OneAvm,
    OneAvmConfig,
    mask_targets,
    next_of,
    of_both,
)
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_separator import CONFIG, save_small_separator

needs_speech = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
LOOP = LoopConfig(
    steps=2, learning_rate=1e-2, warmup_steps=1, ema_decay=0.5, num_workers=0,
    checkpoint_every=1, log_every=1, precision="fp32", tensorboard=False,
)  # fmt: skip
RUN = OneAvmRun(
    name="tiny",
    short_side_px=64,
    model=CONFIG,
    data=DataConfig(
        num_scene_groups=4, num_sounds_per_class=1, num_utterances_per_class=1, batch_size=4,
        pretext_groups=2, pretext_clips=2, num_calibration_samples=2,
    ),
    recipe=OneAvmConfig.synthetic(image_backbone_rate=0.1),
    pretext=replace(LOOP, steps=1),
    loop=LOOP,
)  # fmt: skip


def quiet(*_):
    pass


def batch(num=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixels": torch.randint(256, (num, 3, 32, 32), generator=generator, dtype=torch.uint8),
        "audio": 0.1 * torch.randn(num, 20_480, generator=generator),
    }


def recipe(**changes):
    torch.manual_seed(0)
    return OneAvm(SeparatingEncoder(CONFIG), OneAvmConfig.synthetic(**changes))


@pytest.mark.parametrize("condition", ["attended", "max"])
def test_every_parameter_learns(condition):
    one = recipe(condition=condition, image_backbone_rate=0.1, uniform_conditions=0.0)
    sum(one(batch(), 0).values()).backward()
    assert [n for n, p in one.named_parameters() if p.grad is None] == []
    assert [n for n, p in one.named_parameters() if not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("left_out", ["correspondence", "separation", "alignment"])
def test_a_weight_of_zero_leaves_an_objective_out(left_out):
    terms = recipe(**{f"weight_{left_out}": 0.0})(batch(), 0)
    assert set(terms) == {"correspondence", "separation", "alignment"} - {left_out}


def test_terms_are_added_as_they_are():
    one, doubled = (
        recipe(uniform_conditions=0.0, cell_block=(1, 1), weight_separation=weight)(batch(), 0)
        for weight in (1.0, 2.0)
    )
    assert float(doubled["separation"]) == pytest.approx(2.0 * float(one["separation"]), rel=1e-5)
    assert float(one["separation"]) == pytest.approx(math.log(2.0), abs=0.3)


def test_mixed_contrast_has_both_clips_as_positives():
    num = 4
    partner = next_of(num, torch.device("cpu"))
    assert partner.tolist() == [1, 2, 3, 0]
    scores = torch.full((num, num), -60.0)
    for picture in range(num):
        scores[picture, picture] = scores[partner[picture], picture] = 60.0
    # ln 2 in each direction is the floor where both are right and nothing else is.
    loss = objectives.mixed_info_nce(scores, partner, 0.5)
    assert float(loss) == pytest.approx(2.0 * math.log(2.0), rel=1e-6)
    assert float(objectives.mixed_info_nce(torch.zeros(4, 4), partner, 0.5)) == pytest.approx(
        2.0 * math.log(4.0), rel=1e-6
    )
    # A share of 1 is the plain contrast, whose mean of both directions is half of their sum.
    random = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    plain = 2.0 * objectives.info_nce(random)
    assert float(objectives.mixed_info_nce(random, partner, 1.0)) == pytest.approx(
        float(plain), rel=1e-6
    )


def test_what_a_mixed_picture_shows_is_no_negative_and_positives_always_count():
    valid = ~torch.eye(4, dtype=torch.bool)
    valid[2, 0] = False
    partner = next_of(4, torch.device("cpu"))
    mixed = of_both(valid, partner)
    assert not mixed[2, 0]
    assert not mixed[2, 3]
    scores = torch.zeros(4, 4)
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    loss = objectives.mixed_info_nce(scores, partner, 0.5, nothing)
    assert float(loss) == pytest.approx(2.0 * math.log(2.0), rel=1e-6)


def test_targets_are_who_dominates_and_the_literal_ones_what_exceeds_the_mixture():
    def power(waveforms):  # one band, one frame
        return waveforms.square().mean(dim=1)[:, None, None]

    loud, quiet_one = torch.full((1, 8), 0.4), torch.full((1, 8), -0.3)
    dominant, weight = mask_targets(power, loud, quiet_one, OneAvmConfig())
    assert dominant.flatten().tolist() == [1, 0]
    assert weight.flatten().tolist() == [1, 1]
    # They cancel to 0.1: both exceed the mixture.
    literal, _ = mask_targets(power, loud, quiet_one, OneAvmConfig(mask_target="literal"))
    assert literal.flatten().tolist() == [1, 1]
    together, _ = mask_targets(power, loud, -quiet_one, OneAvmConfig(mask_target="literal"))
    assert together.flatten().tolist() == [0, 0]


def test_level_weights_do_not_depend_on_gain():
    model, audio = SeparatingEncoder(CONFIG), batch()["audio"]
    config = OneAvmConfig(bin_weights="level")
    power = model.audio_backbone.log_mel.power
    (loud, own), (soft, same) = (
        mask_targets(power, *(g * audio[:2, None]), config) for g in (1.0, 0.1)
    )
    torch.testing.assert_close(own, same, rtol=1e-3, atol=1e-5)
    assert (loud == soft).float().mean() > 0.999
    assert own.min() >= 1e-3
    assert own.max() <= 10.0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mask_target": "ideal"}, "mask_target is 'ideal'; expected one of dominant, literal"),
        ({"condition": "mean"}, "expected one of attended, max"),
        ({"mixed_share": 1.5}, "mixed_share is 1.5; expected 0 to 1"),
    ],
)
def test_unknown_choices_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        OneAvmConfig(**change)


def test_a_bundle_of_another_type_lends_what_fits_whole(tmp_path):
    model = SeparatingEncoder(CONFIG)
    before = model.audio_backbone.blocks[0][0][0].weight.clone()
    source = save_small_bundle(tmp_path / "dual")
    assert start_from(model, source) == ("image_backbone", "image_aligner")
    theirs = load_bundle(source).model
    kept = theirs.image_aligner.project.weight[: CONFIG.head_dim]
    torch.testing.assert_close(model.image_aligner.project.weight, kept)
    assert torch.equal(model.audio_backbone.blocks[0][0][0].weight, before)
    # One of its own type lends all of it.
    assert len(start_from(model, save_small_separator(tmp_path / "own"))) == 7
    other = SeparatingEncoder(replace(CONFIG, image_options={"dim": 8}, head_dim=4))
    with pytest.raises(ValueError, match="fits this model"):
        start_from(other, source)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    build_banks(RUN, directory, quiet)
    return directory


@needs_speech
def test_neighbours_sound_like_nothing_in_each_others_pictures(data):
    batches = PartnerBatches(data, 0, 40_960, 5120, batch_size=4)
    for step in range(20):
        one = batches[step]
        shown, sounding = one["present"], one["audio_class"]
        for index in range(4):
            other = (index + 1) % 4
            assert shown[index, sounding[index]]
            assert not shown[index, sounding[other]]
            assert not shown[other, sounding[index]]
    assert all(torch.equal(value, batches[3][key]) for key, value in batches[3].items())
    levels = 20 * batches[0]["audio"].square().mean(dim=1).sqrt().log10()
    assert levels.max() < -18.0


@needs_speech
def test_a_run_resumes_and_its_bundle_separates(data, tmp_path):
    straight = runs.run(RUN, data, tmp_path / "one", quiet)
    half = replace(RUN, start=str(straight))
    again = runs.run(half, data, tmp_path / "two", quiet)
    info = json.loads((again / "config.json").read_text())["info"]
    assert info["recipe"] == "oneavm"
    assert info["settings"]["start"] == str(straight)
    weights = load_file(straight / "model.safetensors")
    assert not any(name.startswith(("mixed_", "log_gamma")) for name in weights)
    assert any(name.startswith("separator.") for name in weights)
    rows = (tmp_path / "one" / "oneavm" / "log.jsonl").read_text().splitlines()
    assert len(rows) == 2

    grounder = Grounder.load(again, backend="torch", device="cpu")
    assert grounder.spec.num_tokens == 8
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(64, 96, 3), dtype=np.uint8)
    clip = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
    heard = grounder.separate(image, clip, 16_000, point=(10, 10))
    np.testing.assert_allclose(heard.separated + heard.residual, clip, atol=1e-6)
    assert 0.0 < np.abs(heard.separated).mean() < np.abs(clip).mean()
