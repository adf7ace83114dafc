"""The recipe of the shipped bundle: gradients, masked negatives, batches, settings, whole runs."""

import json
import os
import signal
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from av_grounding.grounder import Grounder
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.objects import CLASSES
from av_grounding.training import runs
from av_grounding.training.configuration import DataConfig, SssRun
from av_grounding.training.data.synthetic_batches import MixAndSeparateBatches, PretextBatches
from av_grounding.training.loop import checkpoint, run_folder
from av_grounding.training.loop.loop import Interrupted, LoopConfig
from av_grounding.training.material import build_banks
from av_grounding.training.recipes.contrast import negatives
from av_grounding.training.recipes.pretext import Pretext, nearest_cells
from av_grounding.training.recipes.sss import (
    MixAndSeparate,
    SssConfig,
    pool_tokens,
    sample_cells,
)
from av_grounding.training.settings import override

needs_speech = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
MODEL = ModelConfig(
    image_options={"dim": 16},
    audio_options={"dim": 16, "num_mels": 32},
    head_dim=8,
)
LOOP = LoopConfig(
    steps=4,
    learning_rate=1e-2,
    warmup_steps=1,
    ema_decay=0.5,
    num_workers=0,
    checkpoint_every=1,
    log_every=1,
    precision="fp32",
    tensorboard=False,
)
RUN = SssRun(
    name="tiny",
    short_side_px=64,
    model=MODEL,
    data=DataConfig(
        num_scene_groups=2,
        num_sounds_per_class=2,
        num_utterances_per_class=2,
        batch_size=4,
        pretext_groups=2,
        pretext_clips=4,
        num_calibration_samples=2,
    ),
    pretext=replace(LOOP, seed=1),
    loop=replace(LOOP, seed=2),
    tuning=replace(LOOP, seed=3),
)
WINDOW = {"num_samples": 40_960, "token_samples": 1280}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    stages = {}
    build_banks(RUN, directory, lambda stage, *done: stages.update({stage: done[:2]}))
    assert stages == {"scenes": (2, 2), "audio": (len(CLASSES), len(CLASSES))}
    return directory


@pytest.fixture(scope="module")
def batches(data):
    return MixAndSeparateBatches(data, 0, **WINDOW, batch_size=5)


@pytest.fixture(scope="module")
def pretext_batches(data):
    return PretextBatches(data, 0, **WINDOW, num_groups=2, num_clips=6)


def without_gradient(recipe, terms):
    torch.stack(list(terms.values())).sum().backward()
    return {
        name
        for name, parameter in recipe.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }


@needs_speech
def test_every_trained_parameter_of_mix_and_separate_gets_a_gradient(batches):
    recipe = MixAndSeparate(DualEncoder(MODEL), SssConfig.synthetic()).train()
    frozen = {name for name, one in recipe.named_parameters() if not one.requires_grad}
    assert frozen == {name for name, _ in recipe.named_parameters() if ".image_backbone." in name}
    assert without_gradient(recipe, recipe(batches[0], step=0)) == frozen

    recipe = MixAndSeparate(DualEncoder(MODEL), SssConfig.synthetic(image_backbone_rate=0.1))
    terms = recipe.train()(batches[0], step=0)
    assert without_gradient(recipe, terms) == set()
    assert {name.split("_")[0] for name in terms} == {
        *("correspondence", "disentanglement", "head", "splice", "calibration", "non", "total")
    }
    assert all(torch.isfinite(term) and term >= 0 for term in terms.values())


@needs_speech
def test_every_parameter_that_the_pretext_trains_gets_a_gradient(pretext_batches):
    recipe = Pretext(DualEncoder(MODEL), len(CLASSES)).train()
    missed = without_gradient(recipe, recipe(pretext_batches[0], step=0))
    # It ends at the backbones: the aligners wait for the recipe.
    assert missed == {name for name, _ in recipe.named_parameters() if "_aligner." in name}


@needs_speech
def test_a_frozen_backbone_keeps_its_batch_statistics_too(batches):
    recipe = MixAndSeparate(DualEncoder(MODEL), SssConfig.synthetic()).train()
    before = deepcopy(recipe.model.image_backbone.state_dict())
    recipe(batches[0], step=0)
    after = recipe.model.image_backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert recipe.model.audio_backbone.training


@needs_speech
def test_each_head_learns_from_its_own_terms(batches):
    """The sound head's own score trains no speech token, and the other way round."""
    for own, other in (("sound", 1), ("speech", 0)):
        recipe = MixAndSeparate(DualEncoder(MODEL), SssConfig.synthetic()).train()
        recipe(batches[0], step=0)[f"disentanglement_{own}"].backward()
        for aligner in (recipe.model.image_aligner, recipe.model.audio_aligner):
            gradient = aligner.project.weight.grad.unflatten(0, (2, -1))
            assert not gradient[other].any()
            assert gradient[1 - other].any()


class FixedScores(MixAndSeparate):
    """The recipe with the two score matrices given."""

    def score_any_head(self, audio, cells, step):
        return self.scores

    def score_head(self, audio, cells, head, step):
        return self.scores


@needs_speech
@pytest.mark.parametrize("kind", ["sound", "speech"])
def test_a_pair_that_matches_by_chance_does_not_change_the_loss(batches, kind):
    recipe = FixedScores(DualEncoder(MODEL), SssConfig.synthetic()).eval()
    batch = dict(batches[0])
    negative = ~torch.eye(5, dtype=torch.bool)
    negative[1, 3] = negative[2, 0] = False
    batch[f"{kind}_negative"] = negative
    names = (f"correspondence_{kind}", f"disentanglement_{kind}")

    def losses(scores):
        recipe.scores = scores
        terms = recipe(batch, step=0)
        return torch.stack([terms[name] for name in names])

    scores = torch.randn(5, 5, requires_grad=True)
    plain = losses(scores)
    plain.sum().backward()
    used = negative | torch.eye(5, dtype=torch.bool)
    assert ((scores.grad != 0) == used).all()
    changed = scores.detach().clone()
    changed[~used] = 50.0
    assert torch.equal(losses(changed), plain)
    changed[0, 1] += 1.0
    assert (losses(changed) > plain).all()


def test_weights_scale_their_own_terms(batches_like):
    torch.manual_seed(0)
    model = DualEncoder(MODEL).eval()
    names = ("correspondence", "disentanglement", "head_overlap", "splice", "non_negative")
    doubled = {f"weight_{n}": 2 * getattr(SssConfig.synthetic(), f"weight_{n}") for n in names}

    def terms(config):
        torch.manual_seed(1)  # the sampled cells
        return MixAndSeparate(model, config)(batches_like, step=0)

    once, twice = terms(SssConfig.synthetic()), terms(SssConfig.synthetic(**doubled))
    for name, value in once.items():
        is_doubled = name.startswith(names)
        torch.testing.assert_close(twice[name], value * (2.0 if is_doubled else 1.0))
    assert all(once[n] > 0 for n in ("head_overlap", "splice", "non_negative", "total_variation"))
    # The temperature starts below 1, where its regulariser is silent.
    assert once["calibration"] == 0.0


@pytest.fixture
def batches_like():
    """A batch of noise with the shapes of a real one."""
    b, negative = 4, ~torch.eye(4, dtype=torch.bool)
    return {
        "pixels": torch.randint(256, (b, 3, 64, 64), dtype=torch.uint8),
        **{name: 0.1 * torch.randn(b, 40_960) for name in ("sound", "speech", "mixture")},
        "sound_silent": torch.zeros(b, 32),
        "speech_silent": torch.ones(b, 32),
        "sound_negative": negative,
        "speech_negative": negative,
    }


def test_the_papers_pooling_is_one_setting_away(batches_like):
    torch.manual_seed(0)
    model = DualEncoder(MODEL).eval()
    paper = SssConfig.synthetic(
        sharpness_start=float("inf"), sharpness_end=float("inf"), evidence_floor=None
    )
    recipe = MixAndSeparate(model, replace(paper, time_pool=1, cell_block=(1, 1)))
    with torch.no_grad():
        image = model.encode_image(batches_like["pixels"].float() / 255.0).flatten(3)
        audio = model.encode_audio(batches_like["sound"])
        score = recipe.score_any_head(audio, image, step=0)
        volume = torch.einsum("ikct,jkcn->ijktn", audio, image)
    expected = volume.amax(dim=2).amax(dim=-1).mean(dim=-1)  # equations 3 and 5
    torch.testing.assert_close(score, 12.0 * expected)


def test_sharpness_rises_geometrically_and_stays():
    config = SssConfig(sharpness_start=4.0, sharpness_end=36.0, sharpness_steps=10)
    assert [round(config.sharpness(step), 6) for step in (0, 5, 10, 99)] == [4, 12, 36, 36]


def test_sampled_cells_are_one_of_every_block_and_the_same_for_all_images():
    grid = torch.arange(6 * 8).reshape(6, 8).float()
    image = torch.stack([grid, grid + 100])[:, None, None]
    seen = set()
    for _ in range(20):
        cells = sample_cells(image, (3, 4))
        assert cells.shape == (2, 1, 1, 4)
        torch.testing.assert_close(cells[1], cells[0] + 100)
        y, x = cells[0, 0, 0].int() // 8, cells[0, 0, 0].int() % 8
        assert list(zip((y // 3).tolist(), (x // 4).tolist(), strict=True)) == [
            (0, 0), (0, 1), (1, 0), (1, 1),
        ]  # fmt: skip
        seen |= set(cells[0, 0, 0].tolist())
    assert len(seen) > 20
    tokens = torch.arange(12.0).reshape(1, 1, 2, 6)
    assert pool_tokens(tokens, 2).tolist() == [[[[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]]]]
    assert torch.equal(pool_tokens(tokens, 1), tokens)


@needs_speech
def test_a_batch_depends_on_seed_and_step_alone(data, batches, pretext_batches):
    again = MixAndSeparateBatches(data, 0, **WINDOW, batch_size=5)
    for drawn, repeated in ((batches[3], again[3]), (pretext_batches[3], pretext_batches[3])):
        assert all(torch.equal(drawn[key], repeated[key]) for key in drawn)
    assert not torch.equal(batches[3]["sound"], batches[4]["sound"])
    assert not torch.equal(
        MixAndSeparateBatches(data, 1, **WINDOW, batch_size=5)[3]["sound"], batches[3]["sound"]
    )


@needs_speech
def test_negatives_are_the_images_without_the_clips_class(batches):
    bank = batches.scenes
    pairs = set()
    for step in range(6):
        batch = batches[step]
        assert batch["pixels"].shape == (5, 3, 64, 64)
        assert batch["pixels"].dtype == torch.uint8
        views = bank.images.transpose(0, 1, 4, 2, 3)
        scenes = []
        for pixels in batch["pixels"].numpy():
            same = [
                (views == p).all(axis=(2, 3, 4)).any(axis=1) for p in (pixels, pixels[..., ::-1])
            ]
            (scene,) = np.flatnonzero(np.logical_or(*same))
            scenes.append(scene)
        present = [set(bank.classes[scene][bank.classes[scene] >= 0]) for scene in scenes]
        for kind in ("sound", "speech"):
            for i, row in enumerate(negatives(batch, kind).numpy()):
                rows = {tuple(name not in shown for shown in present) for name in present[i]}
                assert tuple(row) in rows
                assert not row[i]
        pairs.add(tuple(negatives(batch, "sound").flatten().tolist()))
    assert len(pairs) > 1


@needs_speech
def test_clips_hold_what_they_are_called(batches):
    batch = batches[0]
    for name in ("sound", "speech", "mixture"):
        assert batch[name].shape == (5, 40_960)
        assert (batch[name].square().mean(dim=1).sqrt() > 0.01).all()
    # A mixture is its own sound and the next speech at some levels, and noise 10 dB under it.
    for i in range(5):
        parts = torch.stack([batch["sound"][i], batch["speech"][(i + 1) % 5]], dim=1)
        levels = torch.linalg.lstsq(parts, batch["mixture"][i][:, None]).solution
        rest = batch["mixture"][i] - (parts @ levels)[:, 0]
        assert (levels > 0.1).all()
        assert rest.square().mean() < 0.5 * batch["mixture"][i].square().mean()
    for name in ("sound", "speech"):
        silent = batch[f"{name}_silent"]
        level = batch[name].unflatten(1, (-1, 1280)).square().mean(dim=2)
        assert silent.shape == (5, 32)
        assert set(silent.unique().tolist()) <= {0.0, 1.0}
        loudest = level.max(dim=1, keepdim=True).values
        assert not silent[level > 0.5 * loudest].any()
    assert batch["speech_silent"].any()


@needs_speech
def test_pretext_batches_name_individuals_and_words(pretext_batches):
    batch = pretext_batches[0]
    assert batch["view_a"].shape == batch["view_b"].shape == (12, 3, 64, 64)
    assert batch["group"].tolist() == [0] * 6 + [1] * 6
    for view in ("index_a", "index_b"):
        for group in range(2):
            shown = [
                set(index.unique().tolist()) - {0}
                for index in batch[view][batch["group"] == group]
            ]
            assert sum(map(len, shown)) == len(set().union(*shown)) > 15
    assert batch["words"].shape == (6, 32)
    for words in batch["words"]:
        assert len(set(words.unique().tolist()) - {0}) == 1
        spoken = torch.nonzero(words)[:, 0]
        assert 1 <= len(spoken) <= 16
        assert (spoken.diff() == 1).all()


def test_flipped_views_keep_their_cells(data_free_views):
    """The index is flipped with the picture: bright pixels stay where the index says."""
    batch = data_free_views
    for view, index in (("view_a", "index_a"), ("view_b", "index_b")):
        bright = batch[view].float().mean(dim=1)[:, 2::4, 2::4] > 150
        assert torch.equal(bright, batch[index] > 0)


@pytest.fixture
def data_free_views(monkeypatch):
    """A batch of the pretext over pictures in which the left third is bright and indexed."""
    batches = PretextBatches(Path(), 0, **WINDOW, num_groups=2, num_clips=1)
    images = np.zeros((12, 2, 48, 48, 3), np.uint8)
    index = np.zeros((12, 2, 12, 12), np.uint8)
    images[..., :16, :], index[..., :4] = 255, 1
    spec = type("Spec", (), {"num_scenes_per_group": 6, "num_groups": 2})
    batches.scenes = type("Bank", (), {"spec": spec, "images": images, "index": index})
    monkeypatch.setattr(
        batches, "draw_words", lambda rng: (np.zeros(8, np.float32), np.zeros(2, np.int64))
    )
    batch = batches[0]
    sides = {bool(view[0, 0, 0]) for view in batch["view_a"]}
    assert sides == {True, False}  # some are flipped
    return batch


def test_nearest_cells_take_the_centre():
    index = torch.arange(64).reshape(1, 8, 8)
    assert nearest_cells(index, (2, 2)).tolist() == [[[18, 22], [50, 54]]]
    assert torch.equal(nearest_cells(index, (8, 8)), index)


def test_instances_loss_is_low_when_cells_of_an_individual_agree():
    pretext = Pretext(DualEncoder(MODEL), 3)
    basis = torch.eye(64)
    with torch.no_grad():
        pretext.background.copy_(basis[0])
    index = torch.tensor([[0, 1, 2, 0, 1, 2]])
    cells = basis[index].transpose(1, 2)
    right = pretext.contrast(cells, index, cells, index)
    swapped = pretext.contrast(cells, index, cells, torch.tensor([[0, 2, 1, 0, 2, 1]]))
    assert right < 1e-3
    assert swapped > 2.0
    # An individual that the source does not show can be nobody's answer.
    missing = torch.tensor([[0, 1, 1, 0, 1, 1]])
    shown = pretext.contrast(
        basis[missing].transpose(1, 2), missing, cells, torch.where(index == 2, 0, index)
    )
    assert torch.isfinite(shown)


def test_override_reads_sections_numbers_and_dictionaries():
    config = override(
        SssRun(),
        ["loop.steps=20", "loop.learning_rate=1", "recipe.evidence_floor=none", "name=x y",
         "recipe.sharpness_end=inf", "model.image_options.dim=32", "loop.precision=fp32"],
    )  # fmt: skip
    assert config.loop.steps == 20
    assert config.loop.learning_rate == 1.0
    assert isinstance(config.loop.learning_rate, float)
    assert config.recipe.evidence_floor is None
    assert config.recipe.sharpness_end == float("inf")
    assert config.model.image_options == {**SssRun().model.image_options, "dim": 32}
    assert config.name == "x y"
    assert config.loop.precision == "fp32"
    assert config.pretext == SssRun().pretext


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loop.step=3", "no setting 'step'; did you mean 'steps'"),
        ("zzz=3", "no setting 'zzz'; expected one of name, start, window_s"),
        ("loop=3", "a section; name one of its keys"),
        ("loop.steps.more=3", "'steps' has no keys of its own"),
        ("loop.steps", "expected key=value"),
        ("loop.steps=many", "not a value; expected e.g."),
        ("loop.steps=1.5", "got a float, expected a int"),
        ("loop.tensorboard=1", "got a int, expected a bool"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        override(SssRun(), [assignment])


def stop_at(stage, step):
    """A progress callback that asks the process to stop, as Ctrl-C would."""

    def progress(now, done, total, row):
        if (now, done) == (stage, step):
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def quiet(*_):
    pass


@needs_speech
def test_a_run_that_was_stopped_twice_equals_one_in_one_go(data, tmp_path):
    straight = runs.run(RUN, data, tmp_path / "straight", quiet)
    for stage in ("pretext", "mix-and-separate", "tuning"):
        with pytest.raises(Interrupted, match="step 2 of 4"):
            runs.run(RUN, data, tmp_path / "stopped", stop_at(stage, 2))
        assert not (tmp_path / "stopped" / "bundle").exists()
    resumed = runs.run(RUN, data, tmp_path / "stopped", quiet)
    files = [bundle / "model.safetensors" for bundle in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    torch.manual_seed(RUN.loop.seed)
    fresh = DualEncoder(MODEL).half().state_dict()
    trained = load_file(files[0])
    assert [name for name in fresh if torch.equal(trained[name], fresh[name])] == []
    assert len((straight.parent / "sss" / "log.jsonl").read_text().splitlines()) == 4
    settings = json.loads((straight / "config.json").read_text())["info"]["settings"]
    assert settings == json.loads((straight.parent / "settings.json").read_text())

    grounder = Grounder.load(straight)
    assert grounder.spec.num_tokens == 32
    assert grounder.spec.short_side_px == 64
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(96, 128, 3), dtype=np.uint8)
    heatmaps = grounder.ground(image, rng.standard_normal(16_000) * 0.1, 16_000)
    assert heatmaps.sound.shape == (16, 20)
    assert 0.0 < heatmaps.sound.min() <= heatmaps.sound.max() < 1.0


@needs_speech
def test_with_validation_the_best_weights_ship(data, tmp_path):
    config = replace(
        RUN, loop=replace(RUN.loop, validate_every=2), tuning=replace(RUN.tuning, steps=0)
    )
    bundle = runs.run(config, data, tmp_path, quiet)
    rows = (tmp_path / "sss" / "validation.jsonl").read_text().splitlines()
    losses = {row["step"]: row["loss"] for row in map(json.loads, rows)}
    assert list(losses) == [1, 3]
    best = checkpoint.read(tmp_path / "sss" / "best.pt")
    assert losses[best["step"] - 1] == min(losses.values())
    shipped, kept = load_file(bundle / "model.safetensors"), best["recipe"]
    name = "image_aligner.project.weight"
    assert torch.equal(shipped[name], kept[f"model.{name}"].half())


def test_other_settings_for_a_run_that_began_are_refused_by_name(tmp_path):
    path = tmp_path / "settings.json"
    run_folder.settle_settings(RUN, path)
    run_folder.settle_settings(RUN, path)
    before = path.read_bytes()
    other = override(RUN, ["loop.steps=9", "model.image_options.dim=24"])
    with pytest.raises(ValueError, match=r"loop\.steps: 4 then, 9 now") as refused:
        run_folder.settle_settings(other, path)
    assert "model.image_options.dim: 16 then, 24 now" in str(refused.value)
    assert "pretext" not in str(refused.value)
    assert path.read_bytes() == before


def test_a_run_of_an_older_version_goes_on_where_new_settings_have_their_defaults(tmp_path):
    path = tmp_path / "settings.json"
    run_folder.settle_settings(RUN, path)
    older = json.loads(path.read_text())
    del older["loop"]["decay"]
    path.write_text(json.dumps(older))
    with pytest.raises(ValueError, match=r"loop\.decay: 'cosine' then, 'linear' now"):
        run_folder.settle_settings(override(RUN, ["loop.decay=linear"]), path)
    run_folder.settle_settings(RUN, path)
    assert json.loads(path.read_text())["loop"]["decay"] == "cosine"
