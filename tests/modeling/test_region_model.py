import numpy as np
import pytest
import torch
from torch.nn import functional as F

from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.mask_encoder import AttentionAligner, MaskEncoder, pooled_sound
from av_grounding.modeling.region_model import RegionConfig, as_regions
from av_grounding.modeling.region_views import global_views, local_views, mask_weights
from av_grounding.types import MAX_LOGIT
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_regions import (
    CONFIG,
    disc_and_square,
    save_small_regions,
    small_region_model,
)

IMAGE, TRUTHS = disc_and_square(96, 128)


def pixels_of(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0


def test_the_local_view_is_the_box_of_the_mask_black_off_it():
    (view,) = local_views(IMAGE, TRUTHS[1:], 64)
    assert np.abs(view.reshape(-1, 3).mean(axis=0) - (30, 60, 190)).max() < 6
    (disc,) = local_views(IMAGE, TRUTHS[:1], 64)
    assert (disc[0, 0] == 0).all()
    assert (disc[-1, -1] == 0).all()
    assert np.abs(disc[32, 32].astype(int) - (200, 40, 40)).max() < 30
    # A disc fills pi/4 of its box.
    assert abs((disc.sum(axis=2) > 0).mean() - np.pi / 4) < 0.06


def test_the_global_view_is_sharp_on_the_mask_and_blurred_off_it():
    (view,) = global_views(IMAGE, TRUTHS[:1], 96, blur_px=10.0)
    import cv2

    whole = cv2.resize(IMAGE, (96, 96), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(TRUTHS[0].astype(np.float32), (96, 96)) >= 0.5
    np.testing.assert_array_equal(view[mask], whole[mask])
    corner = np.s_[:20, :20]
    assert view[corner].std(axis=(0, 1)).mean() < 0.5 * whole[corner].std(axis=(0, 1)).mean()


def test_the_mean_over_a_mask_weighs_cells_by_what_it_covers():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :3] = True
    np.testing.assert_allclose(mask_weights(mask, (2, 2)), [[4 / 6, 2 / 6, 0, 0]], atol=1e-6)


def test_equation_1_mixes_local_and_global_embeddings():
    model = small_region_model()
    local, whole, both = (
        small_region_model(local_weight=weight).region_features(IMAGE, TRUTHS)
        for weight in (1.0, 0.0, 0.6)
    )
    torch.testing.assert_close(both, 0.6 * local + 0.4 * whole)
    views = torch.from_numpy(local_views(IMAGE, TRUTHS, CONFIG.crop_px)).permute(0, 3, 1, 2)
    expected = model.image_features(views / 255.0).mean(dim=(2, 3))
    torch.testing.assert_close(local, expected)


def test_attention_pooling_is_the_plain_mean_of_the_tokens():
    aligner = AttentionAligner(12, 1, 5)
    torch.nn.init.normal_(aligner.attend.weight, std=0.5)  # far within its bounds
    x = torch.randn(3, 12, 9)
    u = aligner.attend(aligner.norm(x.transpose(1, 2)))
    attended = (torch.softmax(u, dim=1) * x.transpose(1, 2)).sum(dim=1)
    expected = F.normalize(aligner.project(attended), dim=-1)
    torch.testing.assert_close(pooled_sound(aligner(x))[:, 0], expected)


def test_padding_and_order_change_no_region():
    encoder = MaskEncoder(6, 1, 4, width=8, depth=2, num_attention_heads=2).eval()
    x, valid = torch.randn(1, 5, 6), torch.ones(1, 5, dtype=torch.bool)
    alone = encoder(x, valid)
    torch.testing.assert_close(alone.norm(dim=2), torch.ones(1, 1, 5))
    padded = torch.cat([x, 9.0 * torch.randn(1, 3, 6)], dim=1)
    of_padded = encoder(padded, torch.arange(8)[None] < 5)
    torch.testing.assert_close(of_padded[..., :5], alone)
    order = torch.randperm(5)
    torch.testing.assert_close(encoder(x[:, order], valid), alone[..., order])


def test_pictures_of_a_batch_are_answered_as_if_alone():
    model = small_region_model()
    other = np.ascontiguousarray(IMAGE[::-1])
    with torch.no_grad():
        both = model.encode_image(pixels_of(IMAGE, other))
        alone = model.encode_image(pixels_of(other))
        torch.testing.assert_close(both[1].vectors, alone[0].vectors, atol=1e-5, rtol=1e-4)
        np.testing.assert_array_equal(both[1].masks, alone[0].masks)
        vector = torch.randn(2, 1, 1, 8)
        maps = model.ground(both, vector)
    assert maps.shape == (2, 1, 1, 64, 85)
    first = model.score(both[0], vector[:1])[0, 0, 0]
    covered = torch.from_numpy(both[0].masks[0])
    expected = torch.where(covered, first[:, None, None], -MAX_LOGIT).amax(dim=0)
    torch.testing.assert_close(maps[0, 0, 0], expected)


def test_a_bundle_of_regions_comes_back_and_states_all_of_its_configuration(tmp_path):
    bundle = load_bundle(save_small_regions(tmp_path / "one", image_aligner="pointwise",
                                            image_aligner_options={}))  # fmt: skip
    assert bundle.model.config.image_aligner == "pointwise"
    assert bundle.spec.compares == "cosine"
    bundle = load_bundle(save_small_regions(tmp_path / "two"))
    assert bundle.model.config == CONFIG
    assert RegionConfig.from_json(CONFIG.to_json()) == CONFIG
    model = small_region_model()
    with torch.no_grad():
        ours = bundle.model.encode_image(pixels_of(IMAGE)).vectors
        torch.testing.assert_close(
            ours, model.encode_image(pixels_of(IMAGE)).vectors, atol=2e-2, rtol=0.1
        )


def test_a_dual_encoder_answers_for_regions_by_the_mean_of_its_cells(tmp_path):
    dual = load_bundle(save_small_bundle(tmp_path / "dual")).model
    model = as_regions(dual, proposals="grid", proposals_options={"num_regions": 12})
    assert not any(value.is_meta for value in model.state_dict().values())
    with torch.no_grad():
        tokens = model.encode_image(pixels_of(IMAGE))
        cells = dual.image_features(pixels_of(IMAGE))[0]
        weights = mask_weights(tokens.masks[0], cells.shape[-2:])
        pooled = (weights @ cells.flatten(1).T).T[None, :, :, None]
        torch.testing.assert_close(tokens.vectors, dual.image_aligner(pooled)[..., 0])
        sound = torch.randn(1, 40_960)
        torch.testing.assert_close(model.encode_audio(sound), dual.encode_audio(sound))
    assert type(model.config) is RegionConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proposals": "mvit"}, "proposals is 'mvit'; expected one of classical, grid, sam"),
        ({"views": "tiles"}, "views is 'tiles'; expected one of crops, pooled"),
        ({"local_weight": 1.5}, "local_weight is 1.5; expected 0 to 1"),
    ],
)
def test_unknown_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RegionConfig(**changes)


def test_a_configuration_of_cells_stays_as_it_was_in_files():
    assert "image_aligner" not in ModelConfig().to_json()
    assert "image_aligner" not in RegionConfig().to_json()
    assert RegionConfig.from_json(RegionConfig().to_json()).image_aligner == "regions"
    assert isinstance(DualEncoder(ModelConfig()), DualEncoder)
