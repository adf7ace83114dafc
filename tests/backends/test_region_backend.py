import json
import threading

import numpy as np
import pytest
import torch

from av_grounding.backends import load_backend, load_regions
from av_grounding.backends.export import check_request
from av_grounding.backends.regions import RegionBackend
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.cli import main
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.streaming.offline import ground_clip
from av_grounding.types import MAX_LOGIT
from tests.helpers import signals
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_regions import THINGS, disc_and_square, save_small_regions

IMAGE, _ = disc_and_square(96, 128)
WAVE = signals.vowel(3.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_regions(tmp_path_factory.mktemp("regions") / "bundle")


def test_one_map_a_class_and_their_maximum_is_the_map_of_all_regions(bundle):
    backend = load_backend(bundle)
    assert backend.name == "torch"
    assert backend.describe()["proposals"] == "classical"
    grounding = ground_clip(backend, IMAGE, WAVE, 16_000)
    answer = grounding["sound"]
    assert 1 <= len(answer.labels) == len(answer.logits) <= len(THINGS)
    assert set(answer.labels) == set(answer.regions.labels)
    regions = answer.regions
    expected = np.full(regions.masks.shape[1:], -MAX_LOGIT, np.float32)
    for mask, logit in zip(regions.masks, regions.logits, strict=True):
        expected[mask] = np.maximum(expected[mask], logit)
    np.testing.assert_allclose(answer.logits.max(axis=0), expected, atol=1e-6)
    for logits, label in zip(answer.logits, answer.labels, strict=True):
        own = regions.masks[[one == label for one in regions.labels]].any(axis=0)
        assert (logits[~own] == -MAX_LOGIT).all()
        assert (logits[own] > -MAX_LOGIT).all()
    # Cosines with a unit vector, calibrated as they are.
    assert np.abs(regions.logits).max() <= 1.0 + 1e-5


def test_a_stream_answers_as_the_clip_does_and_whatever_the_chunks(bundle):
    grounder = Grounder.load(bundle)
    answers = []
    for chunk in (160, 3000):
        stream = grounder.stream()
        for start in range(0, len(WAVE), chunk):
            stream.push_audio(WAVE[start : start + chunk], round(start / 16_000 * 1e9), 16_000)
        answers.append(stream.push_frame(IMAGE, 2_500_000_000)["sound"])
    np.testing.assert_array_equal(answers[0].logits, answers[1].logits)
    assert answers[0].labels == answers[1].labels
    silent = grounder.stream().push_frame(IMAGE, 0)["sound"]
    assert len(silent.logits) == 0
    assert silent.heatmap.shape == answers[0].heatmap.shape
    assert silent.regions is None


def test_a_bundle_of_cells_answers_for_regions_where_it_is_asked_to(tmp_path):
    dual = save_small_bundle(tmp_path / "dual")
    backend = load_regions(dual, proposals="grid", proposals_options={"num_regions": 12})
    grounding = ground_clip(backend, IMAGE, WAVE, 16_000)
    assert tuple(grounding.heads) == ("sound", "speech")
    assert len(grounding["sound"].regions.masks) == 9  # as near 12 as squares come
    assert grounding["sound"].labels == ()  # this bundle names no things


def test_graphs_of_a_gpu_are_not_promised(bundle, tmp_path):
    for name in ("tensorrt", "torch-compiled"):
        with pytest.raises(ValueError, match=rf"'{name}' for regions.*one of auto, torch, cpu"):
            load_backend(bundle, name)
    with pytest.raises(ValueError, match="is a region_model, of which there are graphs for cpu"):
        check_request(bundle, tmp_path / "out", "tensorrt", "fp32")
    check_request(bundle, tmp_path / "out", "cpu", "fp32")


def test_names_must_be_as_many_as_classes(bundle):
    encoders = TorchBackend(load_bundle(bundle))
    RegionBackend(encoders, encoders.model, ("a", "b", "c"))
    with pytest.raises(ValueError, match="2 names for a model of 3 classes"):
        RegionBackend(encoders, encoders.model, ("a", "b"))


@pytest.mark.parametrize("views", ["pooled", "crops"])
def test_regions_are_those_of_the_model_itself(tmp_path, views):
    loaded = load_bundle(save_small_regions(tmp_path / "bundle", views=views))
    backend = RegionBackend(TorchBackend(loaded), loaded.model)
    image, _ = disc_and_square(64, 96)
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
        expected = loaded.model.encode_image(pixels)[0]
    tokens = backend.encode_image(image)
    np.testing.assert_array_equal(tokens.masks, expected.masks)
    torch.testing.assert_close(tokens.vectors, expected.vectors)


def test_regions_are_proposed_while_the_picture_is_encoded(tmp_path, monkeypatch):
    """Once each, and each waits for the other to have begun."""
    backend = load_backend(save_small_regions(tmp_path / "bundle", views="pooled"), "torch")
    both, calls = threading.Barrier(2, timeout=20.0), []

    def together(name, work):
        def call(given):
            calls.append(name)
            both.wait()
            return work(given)

        return call

    for owner, name in ((backend.model, "propose"), (backend.backend, "image_features")):
        monkeypatch.setattr(owner, name, together(name, getattr(owner, name)))
    assert len(backend.encode_image(disc_and_square(64, 96)[0]).masks[0]) >= 1
    assert sorted(calls) == ["image_features", "propose"]


def test_what_goes_wrong_with_proposals_is_not_lost(tmp_path, monkeypatch):
    backend = load_backend(save_small_regions(tmp_path / "bundle", views="pooled"), "torch")
    monkeypatch.setattr(backend.model, "propose", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backend.encode_image(IMAGE[:64, :96])


def test_ground_leaves_the_regions_as_values_and_as_a_picture(bundle, tmp_path):
    import wave

    import cv2

    cv2.imwrite(str(tmp_path / "image.png"), IMAGE[..., ::-1])
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((32_767 * np.clip(WAVE, -1, 1)).astype("<i2").tobytes())
    out = tmp_path / "out"
    arguments = ["ground", str(tmp_path / "image.png"), str(tmp_path / "clip.wav")]
    assert main([*arguments, "--model", str(bundle), "--out", str(out), "--quiet"]) == 0
    told = json.loads((out / "regions.json").read_text())
    assert told["image_size"] == [96, 128]
    regions = told["heads"]["sound"]
    scores = [one["score"] for one in regions]
    assert scores == sorted(scores, reverse=True)
    for one in regions:
        assert one["label"] in THINGS
        assert sum(one["mask"]) == np.prod(told["mask_size"])
        x0, y0, x1, y1 = one["box"]
        assert 0 <= x0 < x1 <= 128
        assert 0 <= y0 < y1 <= 96
    picture = cv2.imread(str(out / "regions.png"))
    assert picture.shape == IMAGE.shape
    assert (picture != IMAGE[..., ::-1]).any(axis=2).mean() > 0.01
