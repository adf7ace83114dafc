"""The parity report of an export, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from av_grounding.backends.image_sizes import ImageSizes
from av_grounding.backends.parity import BOUNDS, Parity


def parity_report(
    parity: Parity,
    maps: dict[str, tuple[float, float]],
    precision: str,
    sizes: ImageSizes,
    runtime: dict[str, Any],
) -> dict[str, Any]:
    """What parity.json holds; `maps` has mAP before and after of each head."""
    return {
        "backend": runtime["backend"],
        "precision": precision,
        "num_examples": parity.num_examples,
        "image_size": [sizes.height, sizes.width],
        "widths": sizes.widths,
        "features": {
            "image": {"mean": parity.image_mean, "max": parity.image_max},
            "audio": {"mean": parity.audio_mean, "max": parity.audio_max},
        },
        "heatmap_max": parity.heatmap_max,
        "by_size": {size: asdict(row) for size, row in parity.by_size.items()},
        "map": {head: {"before": b, "after": a} for head, (b, a) in maps.items()},
        "bounds": asdict(BOUNDS[precision]),
        # Not where the files lay while they were judged.
        "runtime": {key: value for key, value in runtime.items() if key != "artefacts"},
    }


def parity_table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    features, bounds = report["features"], report["bounds"]
    lines = [
        f"Backend {report['backend']}, precision {report['precision']}, against eager PyTorch in "
        f"fp32, on {report['num_examples']} samples:",
        "",
        "| | eager | export | difference | bound |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for part in ("image", "audio"):
        lines.append(
            f"| {part} features, relative L2: mean, largest | | | "
            f"{features[part]['mean']:.2e}, {features[part]['max']:.2e} | {bounds[part]:g} |"
        )
    lines.append(f"| heatmap | | | {report['heatmap_max']:.2e} | {bounds['heatmap']:g} |")
    for head, row in report["map"].items():
        lines.append(
            f"| {head} mAP, % | {100 * row['before']:.2f} | {100 * row['after']:.2f} | "
            f"{100 * (row['after'] - row['before']):+.2f} | -{bounds['map_points']:g} |"
        )
    if report["widths"] is not None:
        low, high = report["widths"]
        lines += [
            "",
            f"One graph takes every width from {low} to {high} pixels. The largest by image size:",
            "",
            "| image | samples | image features, relative L2 | heatmap |",
            "| --- | ---: | ---: | ---: |",
        ]
        for size, row in report["by_size"].items():
            lines.append(
                f"| {size} | {row['num_examples']} | {row['image_max']:.2e} | "
                f"{row['heatmap_max']:.2e} |"
            )
    return "\n".join(lines) + "\n"
