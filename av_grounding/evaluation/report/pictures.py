"""The best, worst and median answers as pictures: heatmaps over the image, truth outlined."""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from av_grounding.drawing.overlay import overlay
from av_grounding.evaluation.comparison import sample_values
from av_grounding.evaluation.harness import Evaluation
from av_grounding.evaluation.scoring.rows import GroundingJob
from av_grounding.image import resize_heatmap
from av_grounding.types import Grounding, HeadAnswer

NUM_PICTURES = 24
LONG_SIDE_PX = 240
JPEG_QUALITY = 78
OUTLINE = {"sound": (255, 255, 255), "speech": (0, 255, 140)}


class AnswerPicture(NamedTuple):
    """A sample's answer as a data URL, with what a caption says."""

    url: str
    caption: str


def choose(evaluation: Evaluation, num: int = NUM_PICTURES) -> dict[str, list[tuple[str, float]]]:
    """best, worst, median -> (sample id, score); the same order for equal scores."""
    values = sample_values(evaluation, evaluation.protocols[0])
    metrics = [
        metric
        for metric in (
            "mean_iou",
            "sound_mAP_per_sample",
            "speech_mAP_per_sample",
            "iou_per_frame",
        )
        if metric in values
    ]
    if not metrics or not evaluation.jobs:
        return {}
    ids = [row["id"] for row in evaluation.rows if row["id"] in values[metrics[0]]]
    scored = [
        (key, float(np.mean([values[metric][key] for metric in metrics if key in values[metric]])))
        for key in ids
    ]
    ranked = sorted(scored, key=lambda one: (-one[1], one[0]))
    middle = max(0, (len(ranked) - num) // 2)
    return {
        "best": ranked[:num],
        "worst": ranked[::-1][:num],
        "median": ranked[middle : middle + num],
    }


def draw(evaluation: Evaluation) -> dict[str, list[AnswerPicture]]:
    """The chosen answers, drawn."""
    known: dict[str, AnswerPicture] = {}
    result: dict[str, list[AnswerPicture]] = {}
    for name, chosen in choose(evaluation).items():
        result[name] = []
        for key, score in chosen:
            if key not in known:
                known[key] = _draw(evaluation.jobs[key], score)
            result[name].append(known[key])
    return result


def _draw(job: GroundingJob, score: float) -> AnswerPicture:
    import cv2

    sample = job.sample
    image = sample.load_image()
    scale = LONG_SIDE_PX / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    drawn = overlay(image, grounding_of(job).heads)
    caption = [f"{100 * score:.0f}"]
    for target in getattr(sample, "targets", ()):
        mask = resize_heatmap(np.asarray(target.load_mask(), np.float32), height, width) >= 0.5
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, outlines, -1, OUTLINE[target.head], 1)
        caption.append(f"{target.head}: {target.class_name}")
    if getattr(sample, "presence", "sounding") != "sounding":
        caption.append(sample.presence)
    return AnswerPicture(_data_url(drawn), ", ".join(caption))


def grounding_of(job: GroundingJob) -> Grounding:
    """The answer as it is published; the classes of a semantic benchmark are no head."""
    maps = {head: one for head, one in job.grids.logits.items() if head != "classes"}
    return Grounding({head: HeadAnswer(one) for head, one in maps.items()}, stamp_ns=0)


def _data_url(image: UInt8[np.ndarray, "H W 3"]) -> str:
    import cv2

    is_done, encoded = cv2.imencode(
        ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert is_done
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
