"""A thing of one's own: a copy of the bundle knows it, and what is no example is refused."""

import numpy as np
import pytest
import torch

from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_config import read_config
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.training.everyday.assembling import everyday_spec
from av_grounding.training.everyday.teaching import ShownThing, teach

SMALL = {"hop": 192, "num_mels": 16, "widths": [4, 4, 4], "dim": 8, "dilations": [1]}
THINGS = ["cat", "dog", "drum"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    model = DualEncoder(
        ModelConfig(
            image_backbone="efficientnet_lite",
            image_aligner="classes",
            image_aligner_options={"num_classes": 5},
            audio_backbone="per_head",
            audio_options={
                "sound": "conv", "sound_options": SMALL,
                "speech": "conv", "speech_options": SMALL,
            },
            audio_aligner="prototypes",
            head_dim=len(THINGS),
            evidence=False,
        )
    ).eval()  # fmt: skip
    model.image_aligner.groups.data[range(3), range(3)] = 1
    for part in model.image_backbone.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # else nothing is left after fifty layers
            part.weight.data.fill_(2.5)
    vocabulary = {"sound": ["dog"], "speech": THINGS}
    return save_bundle(
        tmp_path_factory.mktemp("bundle"), model, everyday_spec(model), name="small",
        info={"things": THINGS}, vocabulary=vocabulary,
    )  # fmt: skip


def picture(rng):
    image = rng.integers(0, 60, (128, 160, 3), dtype=np.uint8)
    mask = np.zeros((128, 160), bool)
    mask[32:96, 32:96] = True
    image[mask] += 150
    return ShownThing(image, mask)


def tone(seconds=1.0):
    return np.sin(2 * np.pi * 440 * np.arange(round(16_000 * seconds)) / 16_000).astype(np.float32)


def test_what_was_taught_is_known_and_the_rest_stays(bundle, tmp_path):
    rng = np.random.default_rng(0)
    taught = teach(
        bundle, tmp_path / "new", "kettle", pictures=[picture(rng)], sayings=[tone(), 0.3 * tone()]
    )
    before, after = load_bundle(bundle), load_bundle(taught.bundle)
    config = read_config(taught.bundle)
    assert config["vocabulary"] == {"sound": ["dog"], "speech": [*THINGS, "kettle"]}
    assert after.info["things"] == [*THINGS, "kettle"]
    assert taught.taken_for["pictures"][0][0] == "kettle"
    assert taught.taken_for["speech"][0][0] == "kettle"
    assert "sound" not in taught.taken_for
    old, new = before.model.image_aligner, after.model.image_aligner
    torch.testing.assert_close(new.classify.weight[:5], old.classify.weight)
    torch.testing.assert_close(new.groups[:3, :5], old.groups)


def test_what_holds_nothing_is_refused(bundle, tmp_path):
    rng = np.random.default_rng(0)
    empty = ShownThing(picture(rng).image, np.zeros((128, 160), bool))
    with pytest.raises(ValueError, match="covers at most 0 % of a cell"):
        teach(bundle, tmp_path / "a", "kettle", pictures=[empty])
    with pytest.raises(ValueError, match=r"'dog' is a thing of .* already"):
        teach(bundle, tmp_path / "a", "dog", pictures=[picture(rng)])
    silence = [np.zeros(16_000, np.float32)]
    with pytest.raises(ValueError, match="sound example of 'kettle' is silent"):
        teach(bundle, tmp_path / "a", "kettle", pictures=[picture(rng)], sounds=silence)
    assert not (tmp_path / "a").exists()
