from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from av_grounding.backends import load_backend
from av_grounding.cli import main
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.class_texts import name_classes
from av_grounding.modeling.clip import ClipBackbone, ClipText, class_embeddings
from av_grounding.modeling.pretrained import load_from_hub
from av_grounding.modeling.region_model import RegionConfig, RegionModel
from tests.helpers.small_regions import CONFIG, disc_and_square, save_small_regions
from tests.helpers.tiny_clip import VISION, save_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def backbone(folder):
    backbone = ClipBackbone(**VISION).eval()
    load_from_hub(backbone.clip, folder)
    return backbone


def with_clip(directory):
    return save_small_regions(
        directory, image_backbone="clip", image_options=VISION, num_classes=0
    )


def test_a_picture_is_embedded_as_the_whole_clip_does(folder, backbone):
    whole = CLIPModel.from_pretrained(folder).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = whole.visual_projection(whole.vision_model(pixels).pooler_output)
        found = backbone(pixels)
    assert found.shape == (2, 12, 1, 1)
    torch.testing.assert_close(found[..., 0, 0], expected)


def test_a_picture_of_another_size_says_which(backbone):
    with pytest.raises(ValueError, match=r"picture of 32x48 pixels; expected 32x32: set crop_px"):
        backbone(torch.zeros(1, 3, 32, 48))


def test_its_defaults_are_vit_b_16():
    with torch.device("meta"):
        backbone = ClipBackbone()
    assert (backbone.dim, backbone.patch_px, backbone.picture_px) == (512, 16, 224)
    assert backbone.clip.vision_model.embeddings.position_embedding.weight.shape == (197, 768)
    # The one constant that no file holds has its values.
    positions = backbone.clip.vision_model.embeddings.position_ids
    assert positions.tolist() == [list(range(197))]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"views": "pooled"}, "views is 'pooled' with image_backbone 'clip'"),
        ({"crop_px": 64}, "crop_px is 64; expected 32, the one size that"),
    ],
)
def test_what_it_cannot_see_is_refused(changes, match):
    clip = {"image_backbone": "clip", "image_options": VISION, **changes}
    with pytest.raises(ValueError, match=match):
        RegionModel(replace(CONFIG, **clip))


def test_text_is_encoded_as_the_whole_clip_does(folder):
    whole = CLIPModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sentences = ["a dog.", "a photo of a cat."]
    found = ClipText(folder).encode(sentences)
    for sentence, vector in zip(sentences, found, strict=True):
        with torch.no_grad():  # alone, so that nothing is padding
            tokens = tokenizer([sentence], return_tensors="pt")
            expected = whole.text_projection(whole.text_model(**tokens).pooler_output)
        torch.testing.assert_close(vector, expected[0] / expected.norm())


def test_a_class_is_the_mean_of_its_sentences():
    table = {"a b": [1.0, 0.0], "the b": [0.0, 1.0], "a c": [-1.0, 0.0], "the c": [-1.0, 0.0]}
    told = []
    rows = class_embeddings(
        lambda sentences: torch.tensor([table[one] for one in sentences]),
        ["b", "c"],
        ["a {}", "the {}"],
        lambda *done: told.append(done),
    )
    torch.testing.assert_close(rows, torch.tensor([[0.5**0.5, 0.5**0.5], [-1.0, 0.0]]))
    assert told == [(2, 2)]
    with pytest.raises(ValueError, match=r"no place for the name; expected one \{\} in each line"):
        class_embeddings(lambda _: torch.zeros(1, 2), ["b"], ["a photo"])


def test_names_are_given_to_a_bundle_and_told_by_cosine(folder, tmp_path):
    bundle = with_clip(tmp_path / "bundle")
    image, _ = disc_and_square(64, 96)
    (tmp_path / "names.txt").write_text("dog\ncat\nblue_square\n")
    out = tmp_path / "named"
    rows = ["--model", str(bundle), "--names", str(tmp_path / "names.txt"), "--clip", str(folder)]
    assert main(["classes", *rows, "--out", str(out), "--quiet"]) == 0
    named = load_bundle(out)
    assert named.info["things"] == ["dog", "cat", "blue square"]
    expected = class_embeddings(ClipText(folder).encode, ["dog", "cat", "blue square"])
    torch.testing.assert_close(named.model.class_embeddings, expected, atol=1e-3, rtol=1e-3)
    backend = load_backend(out, "torch")
    tokens = backend.encode_image(image)
    features = torch.nn.functional.normalize(tokens.features[0].float(), dim=1)
    best = (features @ named.model.class_embeddings.T).argmax(dim=1).numpy()
    np.testing.assert_array_equal(backend.classes(tokens), best)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "0 names; expected 1 to 16384"),
        (["dog", "cat", "dog "], "'dog' named twice; expected each once"),
        (["a" * 60], "has .* tokens; expected at most 40: shorten the name"),
    ],
)
def test_names_that_do_not_serve(names, match, folder, tmp_path):
    bundle = with_clip(tmp_path / "bundle")
    with pytest.raises(ValueError, match=match):
        name_classes(bundle, tmp_path / "out", names, folder)
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_clip_and_a_clip_that_is_not_there(folder, tmp_path):
    with pytest.raises(ValueError, match="sees with 'conv', whose space holds no text"):
        name_classes(save_small_regions(tmp_path / "conv"), tmp_path / "out", ["dog"], folder)
    with pytest.raises(OSError, match="CLIP '/no/where' is not to be had: it is no local"):
        ClipText("/no/where")


def test_the_paper_preset_is_of_the_papers_sizes():
    from av_grounding.training.paper_configuration import SeacPaperRun

    run = SeacPaperRun()
    with torch.device("meta"):
        config = replace(run.model, proposals="grid", proposals_options={})
        model = RegionModel(config)
    assert isinstance(run.model, RegionConfig)
    assert model.image_aligner.enter[0].weight.shape == (512, 512)
    assert len(model.image_aligner.encode.layers) == 4
    assert model.audio_backbone.embeddings[0].weight.shape == (4096, 12288)
    rates = [run.loop.learning_rate_at(step) for step in (0, run.loop.steps // 2, run.loop.steps)]
    assert rates == pytest.approx([1e-4, 5e-5, 0.0], rel=1e-3)
