import numpy as np
import pytest
import torch

from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.region_model import PROPOSALS
from av_grounding.modeling.sam import SamProposals
from tests.helpers.small_regions import disc_and_square, save_small_regions

IMAGE, TRUTHS = disc_and_square(96, 128)
DETECTOR = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 64, "patch_size": 16,
}  # fmt: skip
SAM = {
    "vision_options": {
        "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1],
        "num_pos_feats": 8, "initializer_range": 0.02,
    },
    "prompt_options": {
        "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4,
    },
    "decoder_options": {
        "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
    },
}  # fmt: skip
OPTIONS = {
    "sam": {**SAM, "detector_options": DETECTOR},
    "sam_hq": {
        **SAM,
        "decoder_options": {**SAM["decoder_options"], "vit_dim": 16},
        "detector_options": DETECTOR,
    },
    "sam2": {
        "vision_options": {
            "backbone_options": {
                "hidden_size": 8, "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
        },
        "prompt_options": {"hidden_size": 16, "image_size": 64, "mask_input_channels": 4},
        "decoder_options": {
            "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
        "detector_options": DETECTOR,
    },
}  # fmt: skip


def proposals(kind, **changes):
    torch.manual_seed(1)
    return PROPOSALS[kind](num_regions=6, mask_px=48, **{**OPTIONS[kind], **changes}).eval()


@pytest.mark.parametrize("kind", ["sam", "sam2", "sam_hq"])
def test_every_kept_box_gives_one_mask_of_the_picture(kind):
    found = proposals(kind)(IMAGE)
    assert 1 <= len(found.masks) <= 6
    assert found.masks.shape[1:] == (48, 64)
    assert ((found.confidence >= 0.0) & (found.confidence <= 1.0)).all()
    assert (np.diff(found.confidence) <= 0).all()
    again = proposals(kind)(IMAGE)
    np.testing.assert_array_equal(found.masks, again.masks)


def test_boxes_lie_in_the_picture_and_grids_of_points_ask_without_a_detector():
    sam = proposals("sam")
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1).float() / 255.0
    with torch.no_grad():
        boxes, confidence = sam.boxes(pixels)
    assert boxes.shape == (16, 4)
    assert confidence.shape == (16,)
    assert (boxes >= 0).all()
    assert (boxes <= [128, 96, 128, 96]).all()
    by_points = proposals("sam", prompts="points")
    assert by_points.detector is None
    assert by_points(IMAGE).masks.shape[1:] == (48, 64)


def test_a_box_is_asked_for_in_the_frame_that_the_encoder_sees():
    sam = proposals("sam")
    asked = {}
    forward = sam.segmenter.forward

    def listen(**kwargs):
        asked.update(kwargs)
        return forward(**kwargs)

    sam.segmenter.forward = listen
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1).float() / 255.0
    with torch.no_grad():
        logits, _ = sam.masks(pixels, torch.tensor([[64.0, 48.0, 128.0, 96.0]]))
    # 128 pixels across become 64, and what lies below the picture is padding.
    torch.testing.assert_close(asked["input_boxes"], torch.tensor([[[32.0, 24.0, 64.0, 48.0]]]))
    assert asked["pixel_values"].shape == (1, 3, 64, 64)
    assert (asked["pixel_values"][:, :, 48:] == 0).all()
    assert logits.shape == (1, 48, 64)


def test_its_weights_lie_in_the_bundle_and_nothing_of_it_learns(tmp_path):
    directory = save_small_regions(
        tmp_path / "sam", proposals="sam",
        proposals_options={"num_regions": 4, "mask_px": 48, **OPTIONS["sam"]},
    )  # fmt: skip
    model = load_bundle(directory).model
    assert isinstance(model.proposals, SamProposals)
    assert not any(value.requires_grad for value in model.proposals.parameters())
    assert not any(value.is_meta for value in model.proposals.buffers())
    names = [name for name, _ in model.proposals.named_parameters()]
    assert any(name.startswith("detector.owlv2.vision_model") for name in names)
    assert not any("text_model" in name or "class_head" in name for name in names)
    with torch.no_grad():
        tokens = model.encode_image(torch.rand(1, 3, 64, 96))
    assert tokens.masks.shape[2:] == (48, 72)
    assert not model.train().proposals.segmenter.training


def test_pretrained_weights_fit_whole_or_not_at_all(tmp_path):
    source = proposals("sam")
    source.segmenter.save_pretrained(tmp_path / "segmenter")
    target = proposals("sam")
    for parameter in target.segmenter.parameters():
        parameter.data.zero_()
    target.load(tmp_path / "segmenter")
    for ours, theirs in zip(
        target.segmenter.parameters(), source.segmenter.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    other = proposals("sam", vision_options={**SAM["vision_options"], "num_hidden_layers": 1,
                                             "global_attn_indexes": [0]})  # fmt: skip
    with pytest.raises(ValueError, match=r"does not fit the model: unexpected vision_encoder"):
        other.load(tmp_path / "segmenter")
    with pytest.raises(OSError, match="copy the folder"):
        other.load(tmp_path / "nowhere")


def test_unknown_prompts_are_refused():
    with pytest.raises(ValueError, match="prompts is 'clicks'; expected one of boxes, points"):
        SamProposals(prompts="clicks")
