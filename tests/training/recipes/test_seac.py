import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from av_grounding.backends import load_backend
from av_grounding.modeling.region_model import RegionModel
from av_grounding.synthetic.scene_bank import SceneBank, SceneBankSpec
from av_grounding.synthetic.speech import engine_version
from av_grounding.training import runs
from av_grounding.training.configuration import DataConfig, SeacRun, small_regions
from av_grounding.training.data import region_bank
from av_grounding.training.data.region_bank import RegionBank, read_masks, shard_paths
from av_grounding.training.data.region_batches import ScenePictures
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
    model, pictures = small_region_model(), ScenePictures(scenes)
    proposed, embedded, told = [], [], []

    def counting(found, method):
        return lambda self, *args: found.append(1) or method(self, *args)

    monkeypatch.setattr(RegionModel, "propose", counting(proposed, RegionModel.propose))
    features_of = RegionModel.region_features
    monkeypatch.setattr(RegionModel, "region_features", counting(embedded, features_of))
    bank = RegionBank.build(tmp_path, model, pictures, 5, lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert bank.num_regions.shape == (5, 2)
    masks = model.propose(scenes.images[3, 1]).masks
    assert bank.num_regions[3, 1] == len(masks)
    np.testing.assert_array_equal(list(read_masks(shard_paths(tmp_path, 2)[0]))[3], masks)
    with torch.no_grad():
        expected = model.region_features(scenes.images[3, 1], masks).numpy()
    np.testing.assert_allclose(bank.features(3, 1), expected, rtol=2e-3, atol=1e-3)

    # A stopped build makes what is missing and no more; other views embed the masks anew.
    (tmp_path / "masks-0000002.npz").unlink()
    (tmp_path / "features-0000002.npy").unlink()
    proposed.clear()
    again = RegionBank.build(tmp_path, model, pictures, 5)
    assert len(proposed) == 4
    np.testing.assert_array_equal(again.features(3, 1), bank.features(3, 1))
    proposed.clear(), embedded.clear()
    RegionBank.build(tmp_path, small_region_model(local_weight=0.5), pictures, 4)
    assert (len(proposed), len(embedded)) == (0, 8)
    other = small_region_model(proposals_options={"num_regions": 2, "mask_px": 64})
    assert RegionBank.build(tmp_path, other, pictures, 2).num_regions.max() == 2
    assert (len(proposed), len(list(tmp_path.glob("*.npz")))) == (4, 1)
    with pytest.raises(ValueError, match="got 99 scenes, expected at most the 6 that there are"):
        RegionBank.build(tmp_path, model, pictures, 99)


def test_a_batch_pads_to_its_most_regions():
    features = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    bank = RegionBank(Path(), np.array([[1, 2], [3, 2]]), (features,))
    rows, valid = bank.batch(np.array([0, 1]), np.array([0, 0]))
    assert valid.tolist() == [[True, False, False], [True, True, True]]
    assert rows[0].tolist() == [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert rows[1].tolist() == features[2].tolist()


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
