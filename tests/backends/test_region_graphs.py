"""Models of regions on compiled encoders: the same regions and scores as eager, by one graph."""

import importlib.util
import json

import numpy as np
import pytest

from av_grounding.backends import SWITCH, kept, load_backend, load_regions
from av_grounding.backends.exported import EXPORT_FILE
from av_grounding.config import default_bundle
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES
from av_grounding.image import ResizeTransform
from av_grounding.streaming.offline import ground_clip
from tests.helpers import signals
from tests.helpers.small_regions import THINGS, disc_and_square, save_small_regions
from tests.helpers.tiny_clip import VISION

# Not `importorskip`: its import would send reports (see `openvino_import`).
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs OpenVINO"
)
IMAGE, _ = disc_and_square(96, 128)
WAVE = signals.vowel(3.0)
TOLERANCE = 1e-4
"""Of a score in [0, 1]."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_regions(tmp_path_factory.mktemp("region_graphs") / "bundle", views="pooled")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all tests of this file: compiling takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def compiling(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv(SWITCH)


def assert_same_regions(compiled, eager, image, wave):
    answers = [ground_clip(backend, image, wave, 16_000) for backend in (compiled, eager)]
    for head, expected in answers[1].heads.items():
        got = answers[0][head]
        assert got.labels == expected.labels
        if expected.regions is None:
            assert got.regions is None
            continue
        assert got.regions.labels == expected.regions.labels
        np.testing.assert_array_equal(got.regions.masks, expected.regions.masks)
        np.testing.assert_allclose(got.regions.scores, expected.regions.scores, atol=TOLERANCE)
    return answers[0]


def test_a_bundle_of_regions_is_compiled_at_its_first_use(bundle):
    compiled = load_backend(bundle, "auto", "cpu")
    told = compiled.describe()
    assert (compiled.name, told["backend"]) == ("cpu", "cpu")
    assert told["reason"] == "auto: compiled for this processor at its first use"
    assert told["eager"] == "proposals, region aligner, scores"
    assert json.loads((kept.directory_of(bundle) / EXPORT_FILE).read_text())["image_outputs"] == [
        "features"
    ]
    answer = assert_same_regions(compiled, load_backend(bundle, "torch"), IMAGE, WAVE)
    assert set(answer["sound"].regions.labels) <= set(THINGS)
    # Another shape of picture is compiled when it comes.
    assert_same_regions(compiled, load_backend(bundle, "torch"), IMAGE[:, :96].copy(), WAVE)


def test_crops_go_through_the_same_graph_where_it_takes_any_size(bundle, tmp_path, monkeypatch):
    # The same weights, so the same entry of the cache.
    crops = save_small_regions(tmp_path / "crops", views="crops")
    assert kept.directory_of(crops) == kept.directory_of(bundle)
    eager = load_backend(crops, "torch")
    compiled = load_backend(crops, "auto", "cpu")
    assert compiled.describe()["eager"] == "proposals, region aligner, scores"
    assert_same_regions(compiled, eager, IMAGE, WAVE)
    monkeypatch.setattr(type(compiled.backend), "is_resizable", False)
    fixed = load_backend(crops, "auto", "cpu")
    assert fixed.describe()["eager"] == "proposals, crops, region aligner, scores"
    assert_same_regions(fixed, eager, IMAGE, WAVE)


@pytest.mark.slow
def test_crops_of_an_encoder_of_one_size_go_through_a_graph_of_that_size(tmp_path):
    clip = {"image_backbone": "clip", "image_options": VISION, "num_classes": 0}
    bundle = save_small_regions(tmp_path / "clip", **clip)
    compiled = load_backend(bundle, "auto", "cpu")
    told = compiled.describe()
    assert (told["backend"], told["image_size"]) == ("cpu", [32, 32])
    assert told["eager"] == "proposals, region aligner, scores"
    assert_same_regions(compiled, load_backend(bundle, "torch"), IMAGE, WAVE)


def test_cells_and_regions_of_a_bundle_share_an_export(exported):
    options = {"proposals": "grid", "proposals_options": {"num_regions": 12}}
    compiled = load_regions(exported, "auto", "cpu", **options)
    assert compiled.describe()["reason"] == "auto: the bundle has an export for cpu"
    eager = load_regions(exported, "torch", "cpu", **options)
    answer = assert_same_regions(compiled, eager, IMAGE, WAVE)
    assert len(answer["sound"].regions.masks) == 9
    assert load_backend(exported, "auto", "cpu").name == "cpu"


@pytest.mark.skipif(
    not all(FOLDERS[name].is_dir() for name in PACKAGES), reason=f"needs {', '.join(PACKAGES)}"
)
@pytest.mark.slow
def test_the_default_bundle_on_photographs():
    """Upright, wide and as a camera has it, one after the other."""
    import cv2

    from av_grounding.everyday.samples import EverydaySamples

    bundle = default_bundle()
    compiled = load_regions(bundle, "auto", "cpu", proposals="classical")
    assert compiled.name == "cpu"
    eager = load_regions(bundle, "torch", "cpu", proposals="classical")
    world = EverydaySamples("validation", 7)
    for index, size in enumerate([(640, 480), (640, 360), (360, 480)]):
        sample = world[index]
        image = cv2.resize(sample.image, size)
        answer = assert_same_regions(compiled, eager, image, sample.mixture)
        assert len(answer["sound"].regions.masks) == 16
    # Cells of the same graphs, in a size that they were not exported for.
    cells = load_backend(bundle, "auto", "cpu")
    placement = ResizeTransform.fit(360, 640, cells.spec.short_side_px, cells.spec.patch_px)
    wide = placement.apply(cv2.resize(world[0].image, (640, 360)))
    tokens = [one.encode_image(wide) for one in (cells, load_backend(bundle, "torch", "cpu"))]
    np.testing.assert_allclose(np.asarray(tokens[0]), np.asarray(tokens[1]), atol=1e-4)
