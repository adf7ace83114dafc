"""The proposals of 002: boxes of a class-free detector, and a promptable segmenter's mask of each.

Both networks are those of `transformers`, built from configuration and frozen. What their image
processors do is done here, so that training, robot and every bundle share it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.clip import CLIP_MEAN, CLIP_STD
from av_grounding.modeling.pretrained import load_from_hub
from av_grounding.modeling.proposals import Proposals, mask_size
from av_grounding.modeling.segmenters import KINDS, MIN_VERSIONS

SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAM2_PX, SAM2_STRIDES = 1024, (4, 8, 16)
"""Side of the picture that SAM 2 takes, and how many pixels a cell of its feature maps has."""
PROMPTS = ("boxes", "points")
TEXT_ONLY = ("text_model", "text_projection", "visual_projection", "logit_scale")


class SamProposals(nn.Module):
    """Boxes by OWLv2's objectness, which names no class, and SAM's one mask for each.

    `prompts` "points" asks SAM at a grid of points instead, as its automatic masks do; the paper
    finds that small things are then missed (002 section 3.2). `detector_options` are fields of
    `Owlv2VisionConfig`, the other options those of the segmenter's vision encoder, prompt encoder
    and mask decoder (`vision_options["backbone_options"]`: of SAM 2's Hiera). Suppression is the
    paper's: boxes, at an IoU of `nms_iou`.
    """

    def __init__(
        self,
        kind: str = "sam",
        num_regions: int = 50,
        nms_iou: float = 0.5,
        mask_px: int = 256,
        prompts: str = "boxes",
        vision_options: dict[str, Any] | None = None,
        prompt_options: dict[str, Any] | None = None,
        decoder_options: dict[str, Any] | None = None,
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if prompts not in PROMPTS:
            raise ValueError(f"prompts is {prompts!r}; expected one of {', '.join(PROMPTS)}")
        self.kind, self.num_regions, self.nms_iou = kind, num_regions, nms_iou
        self.mask_px, self.prompts = mask_px, prompts
        # Their constants are not part of any file, so they must be computed here and now, also
        # where the parameters are built without values (see `bundle`).
        with torch.device("cpu"):
            self.segmenter = _segmenter(
                kind, vision_options or {}, prompt_options or {}, decoder_options or {}
            )
            self.detector = None if prompts == "points" else _detector(detector_options or {})
        self.requires_grad_(False)

    def load(self, segmenter: str | Path, detector: str | Path | None = None) -> None:
        """Give both networks pretrained weights: names on the hub, or local folders.

        Errors as `pretrained.load_dino`'s; parameters of the detector's text side are left out.
        """
        load_from_hub(self.segmenter, segmenter)
        if self.detector is not None and detector is not None:
            load_from_hub(self.detector, detector, unused=("class_head.", *_text_names()))

    @torch.no_grad()
    def forward(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        device = next(self.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        pixels = pixels.permute(2, 0, 1).float() / 255.0
        height, width = image.shape[:2]
        if self.detector is None:
            prompts, confidence = _point_grid(self.num_regions, height, width), None
        else:
            boxes, confidence = self.boxes(pixels)
            order = _kept_boxes(boxes, confidence, self.nms_iou)[: self.num_regions]
            prompts, confidence = boxes[order], confidence[order]
        logits, quality = self.masks(pixels, torch.as_tensor(prompts, device=device))
        masks = (logits > 0.0).cpu().numpy()
        if confidence is None:
            return Proposals.best(masks, quality, self.num_regions, self.nms_iou)
        return Proposals.best(masks, confidence, self.num_regions)

    def boxes(
        self, pixels: Float[Tensor, "3 H W"]
    ) -> tuple[Float[np.ndarray, "m 4"], Float[np.ndarray, " m"]]:
        """All boxes as x0, y0, x1, y1 in pixels, and how likely each holds a thing."""
        height, width = pixels.shape[1:]
        side = max(height, width)
        size = self.detector.config.vision_config.image_size
        squared = F.pad(pixels, (0, side - width, 0, side - height))[None]
        squared = F.interpolate(
            squared, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        grid = self.detector.image_embedder(_normalised(squared, CLIP_MEAN, CLIP_STD))[0]
        cells = grid.flatten(1, 2)
        confidence = torch.sigmoid(self.detector.objectness_predictor(cells))[0]
        x, y, w, h = (side * self.detector.box_predictor(cells, grid)[0]).unbind(-1)
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)
        limit = boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(boxes.clamp_min(0.0), limit)
        return boxes.cpu().numpy(), confidence.cpu().numpy()

    def masks(
        self, pixels: Float[Tensor, "3 H W"], prompts: Float[Tensor, "n p"]
    ) -> tuple[Float[Tensor, "n h w"], Float[np.ndarray, " n"]]:
        """One mask's logits for each box (p = 4) or point (p = 2), and their predicted IoU."""
        height, width = pixels.shape[1:]
        size = self.segmenter.config.prompt_encoder_config.image_size
        rows, columns = (size, size)
        if self.kind != "sam2":  # whose own transform squeezes the picture to a square
            scale = size / max(height, width)
            rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        resized = F.interpolate(
            pixels[None], (rows, columns), mode="bilinear", antialias=True, align_corners=False
        )
        padded = F.pad(
            _normalised(resized, SAM_MEAN, SAM_STD), (0, size - columns, 0, size - rows)
        )
        factor = prompts.new_tensor([columns / width, rows / height] * (prompts.shape[1] // 2))
        placed = (prompts * factor)[None]
        asked = {"input_boxes": placed}
        if prompts.shape[1] == 2:
            asked = {"input_points": placed[:, :, None]}
        answer = self.segmenter(pixel_values=padded, multimask_output=False, **asked)
        low = answer.pred_masks[0, :, :1].float()
        large = F.interpolate(low, (size, size), mode="bilinear", align_corners=False)
        target = mask_size(height, width, self.mask_px)
        cut = large[..., :rows, :columns]
        logits = F.interpolate(cut, target, mode="bilinear", align_corners=False)[:, 0]
        return logits, answer.iou_scores[0, :, 0].float().clamp(0, 1).cpu().numpy()

    def train(self, mode: bool = True) -> SamProposals:
        """Always in eval mode: these networks are frozen."""
        return super().train(False)


def _segmenter(
    kind: str, vision: dict[str, Any], prompt: dict[str, Any], decoder: dict[str, Any]
) -> nn.Module:
    import transformers

    name = KINDS[kind]
    if not hasattr(transformers, f"{name}Model"):
        raise ImportError(
            f"proposals {kind!r} need transformers {MIN_VERSIONS[kind]} or later, this is "
            f"{transformers.__version__}: pip install -U transformers"
        )
    if kind == "sam2":
        side = prompt.get("image_size", SAM2_PX)
        backbone = {"model_type": "sam2_hiera_det_model", "image_size": [side, side]}
        backbone |= vision.get("backbone_options", {})
        vision = {name: value for name, value in vision.items() if name != "backbone_options"}
        sizes = [[side // stride] * 2 for stride in SAM2_STRIDES]
        vision |= {"backbone_config": backbone, "backbone_feature_sizes": sizes}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    return getattr(transformers, f"{name}Model")(config).eval()


def _detector(options: dict[str, Any]) -> nn.Module:
    """OWLv2's image side. Its text tower names classes, which nothing here asks for."""
    try:
        from transformers import Owlv2Config, Owlv2ForObjectDetection
    except ImportError:
        raise ImportError(
            f"boxes need transformers with Owlv2 ({MIN_VERSIONS['owlv2']} or later): "
            "pip install -U transformers"
        ) from None
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "vocab_size": 8, "bos_token_id": 0,
            "eos_token_id": 0}  # fmt: skip
    model = Owlv2ForObjectDetection(Owlv2Config(vision_config=options, text_config=text)).eval()
    for name in TEXT_ONLY:
        delattr(model.owlv2, name)
    del model.class_head
    return model


def _text_names() -> tuple[str, ...]:
    return tuple(f"owlv2.{name}" for name in TEXT_ONLY)


def _normalised(
    pixels: Float[Tensor, "b 3 H W"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "b 3 H W"]:
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def _point_grid(num: int, height: int, width: int) -> Float[Tensor, "n 2"]:
    """About `num` points, evenly over the picture, as x, y in pixels."""
    rows = max(1, round((num * height / width) ** 0.5))
    columns = max(1, round(num / rows))
    y = (torch.arange(rows) + 0.5) * height / rows
    x = (torch.arange(columns) + 0.5) * width / columns
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)


def _kept_boxes(
    boxes: Float[np.ndarray, "m 4"], confidence: Float[np.ndarray, " m"], max_iou: float
) -> np.ndarray:
    """Numbers of boxes that share at most `max_iou` with any more confident one, best first."""
    order = np.argsort(-confidence, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    kept: list[int] = []
    for number in order[area[order] > 0.0]:
        low = np.maximum(boxes[kept, :2], boxes[number, :2])
        high = np.minimum(boxes[kept, 2:], boxes[number, 2:])
        shared = np.prod(np.maximum(high - low, 0.0), axis=1)
        if not kept or (shared / (area[kept] + area[number] - shared)).max() <= max_iou:
            kept.append(int(number))
    return np.array(kept, np.int64)
