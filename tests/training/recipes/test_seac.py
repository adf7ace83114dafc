import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from av_grounding.backends import load_backend
from av_grounding.synthetic.scene_bank import SceneBank, SceneBankSpec
from av_grounding.synthetic.speech import engine_version
from av_grounding.training import runs
from av_grounding.training.configuration import DataConfig, SeacRun, small_regions
from av_grounding.training.data import region_bank
from av_grounding.training.data.region_bank import RegionBank
from av_grounding.training.losses.region_contrast import micl, msa_micl, region_scores
from av_grounding.training.recipes.seac import RegionContrast, SeacConfig
from av_grounding.training.regions_run import class_embeddings
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_regions import small_region_model


def batch(num=6):
    generator = torch.Generator().manual_seed(3)
    return {
        "regions": torch.randn(num, 5, 16, generator=generator),
        "region_valid": torch.arange(5) < torch.arange(num)[:, None] % 4 + 2,
        "sound": 0.1 * torch.randn(num, 16_000, generator=generator),
        "sound_class": torch.arange(num) % 3,
        "present": torch.eye(3, dtype=torch.bool)[torch.arange(num) % 3],
    }


def test_what_is_trained_gets_a_gradient_and_what_is_frozen_none():
    recipe = RegionContrast(small_region_model(), SeacConfig())
    terms = recipe(batch(), 0)
    assert list(terms) == ["region_contrast"]
    terms["region_contrast"].backward()
    for name, parameter in recipe.named_parameters():
        is_frozen = name.startswith(("model.image_backbone", "model.audio_backbone"))
        is_frozen |= name == "model.class_embeddings"
        assert parameter.requires_grad != is_frozen, name
        if not is_frozen:
            assert parameter.grad.abs().sum() > 0.0, name
    recipe.train()
    assert not recipe.model.audio_backbone.training
    assert recipe.model.image_aligner.training


def test_the_term_is_the_papers_on_mixed_waveforms():
    recipe = RegionContrast(small_region_model(), SeacConfig()).eval()
    rows = batch(4)
    mixture = torch.tensor([0, 1, 1, 0])
    model = recipe.model
    with torch.no_grad():
        loss = recipe(rows | {"mixture": mixture}, 0)["region_contrast"]
        heard = torch.stack([rows["sound"][[0, 3]].sum(0), rows["sound"][[1, 2]].sum(0)])
        sounds = torch.nn.functional.normalize(model.encode_audio(heard).mean(-1)[:, 0], dim=-1)
        vectors = model.encode_regions(rows["regions"], rows["region_valid"])[:, 0]
        scores = region_scores(vectors, rows["region_valid"], sounds) / 0.07
    torch.testing.assert_close(loss, msa_micl(scores, mixture))
    naive = RegionContrast(model, SeacConfig(mixing="naive")).eval()
    with torch.no_grad():
        own_alone = naive(rows | {"mixture": mixture}, 0)["region_contrast"]
    torch.testing.assert_close(own_alone, micl(scores[:, mixture]))


def test_images_that_show_what_is_mixed_are_no_negatives():
    recipe = RegionContrast(small_region_model(), SeacConfig(masks_negatives=True))
    allowed = recipe.allowed(batch(4), torch.tensor([0, 1, 1, 0]))
    # Classes 0 1 2 0; mixtures of clips (0, 3) and (1, 2).
    assert allowed.tolist() == [[False, True], [True, False], [True, False], [False, True]]


def test_mixing_rises_linearly_to_its_end():
    config = SeacConfig(mixing_steps=100)
    assert [config.mixing_at(step) for step in (0, 50, 100, 200)] == [0.0, 0.25, 0.5, 0.5]
    assert SeacConfig(mixing="none", mixing_steps=1).mixing_at(9) == 0.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mixing": "some"}, "mixing is 'some'; expected one of msa, naive, none"),
        ({"mixing_end": 2.0}, "mixing_end is 2.0; expected 0 to 1"),
        ({"temperature": 2.0}, "expected it between temperature_min 0.01 and temperature_max 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        SeacConfig(**changes)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "scenes"
    SceneBank.build(directory, SceneBankSpec("train", 1, 64, 1), workers=1)
    return SceneBank(directory)


def test_a_bank_goes_on_where_it_stopped_and_is_made_anew_for_others(
    scenes, tmp_path, monkeypatch
):
    monkeypatch.setattr(region_bank, "SHARD", 2)
    model = small_region_model()
    told = []
    bank = RegionBank.build(tmp_path, model, scenes, 5, lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)] or told == [(2, 5), (4, 5), (6, 5)]
    assert bank.features.shape[:2] == (5, 2)
    proposed = model.propose(scenes.images[3, 1])
    assert bank.num_regions[3, 1] == len(proposed.masks)
    np.testing.assert_array_equal(bank.masks(3, 1), proposed.masks)
    with torch.no_grad():
        features = model.region_features(scenes.images[3, 1], proposed.masks).numpy()
    np.testing.assert_allclose(
        bank.features[3, 1, : len(features)], features, rtol=2e-3, atol=1e-3
    )

    # A stopped build segments what is missing and no more.
    (tmp_path / "regions-000002.npz").unlink()
    segmented = []
    segment = region_bank.segment
    monkeypatch.setattr(
        region_bank, "segment", lambda *args: segmented.append(1) or segment(*args)
    )
    again = RegionBank.build(tmp_path, model, scenes, 5)
    assert len(segmented) == 1
    np.testing.assert_array_equal(again.features, bank.features)
    RegionBank.build(tmp_path, small_region_model(local_weight=0.5), scenes, 2)
    assert len(segmented) == 2
    with pytest.raises(ValueError, match="got 99 scenes, expected at most the bank's 6"):
        RegionBank.build(tmp_path, model, scenes, 99)


def test_class_embeddings_tell_classes_apart_by_cosine():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(18, 32, generator=generator).abs()
    classes = torch.arange(360) % 18
    features = centres[classes] + 0.2 * torch.randn(360, 32, generator=generator)
    embeddings = class_embeddings(features, classes)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(18))
    assert ((features @ embeddings.T).argmax(1) == classes).float().mean() > 0.98


def has_speech():
    try:
        return bool(engine_version())
    except RuntimeError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not has_speech(), reason="espeak-ng is not installed")
def test_a_run_resumes_to_the_same_bundle_which_names_what_it_shows(tmp_path):
    start = save_small_bundle(tmp_path / "start")
    run = SeacRun(
        start=str(start), num_scenes=6, short_side_px=64,
        model=replace(
            small_regions(),
            proposals_options={"num_regions": 4, "mask_px": 64},
            image_aligner_options={"width": 16, "depth": 1, "dropout": 0.0},
        ),
        data=DataConfig(
            num_scene_groups=1, num_sounds_per_class=1, num_utterances_per_class=1, batch_size=4,
            num_calibration_samples=2,
        ),
        loop=replace(SeacRun().loop, steps=2, num_workers=0, tensorboard=False),
    )  # fmt: skip

    def quiet(*_):
        pass

    first = runs.run(run, tmp_path / "data", tmp_path / "one", quiet)
    weights = load_file(first / "model.safetensors")
    assert weights["class_embeddings"].shape == (18, 16)
    again = runs.run(run, tmp_path / "data", tmp_path / "one", quiet)
    assert all(
        torch.equal(value, weights[name])
        for name, value in load_file(again / "model.safetensors").items()
    )
    info = json.loads((first / "config.json").read_text())["info"]
    assert info["recipe"] == "seac"
    assert len(info["things"]) == 18
    backend = load_backend(first)
    tokens = backend.encode_image(SceneBank(tmp_path / "data" / "scenes").images[0, 0])
    assert set(backend.classes(tokens)) <= set(range(18))
