"""The parity report of an export, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from av_grounding.backends.parity import Bounds, Parity


def parity_report(
    parity: Parity,
    maps: dict[str, tuple[float, float]],
    precision: str,
    bounds: Bounds,
    image_size: tuple[int, int],
    runtime: dict[str, Any],
) -> dict[str, Any]:
    """What parity.json holds; `maps` has mAP before and after of each head."""
    return {
        "backend": runtime["backend"],
        "precision": precision,
        "num_examples": parity.num_examples,
        "image_size": list(image_size),
        "features": {
            "image": {"mean": parity.image_mean, "max": parity.image_max},
            "audio": {"mean": parity.audio_mean, "max": parity.audio_max},
        },
        "heatmap_max": parity.heatmap_max,
        "peak_max": parity.peak_max,
        "mask_max": parity.mask_max,
        "map": {head: {"before": b, "after": a} for head, (b, a) in maps.items()},
        "bounds": asdict(bounds),
        # Not where the files lay while they were judged.
        "runtime": {key: value for key, value in runtime.items() if key != "artefacts"},
    }


def parity_table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    features, bounds = report["features"], report["bounds"]
    lines = [
        f"Backend {report['backend']}, precision {report['precision']}, against eager PyTorch in "
        f"fp32, on {report['num_examples']} examples:",
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
    lines.append(f"| peak | | | {report['peak_max']:.2e} | {bounds['peak']:g} |")
    if report["mask_max"]:
        lines.append(f"| masks | | | {report['mask_max']:.2e} | {bounds['heatmap']:g} |")
    for head, row in report["map"].items():
        lines.append(
            f"| {head} mAP, % | {100 * row['before']:.2f} | {100 * row['after']:.2f} | "
            f"{100 * (row['after'] - row['before']):+.2f} | -{bounds['map_points']:g} |"
        )
    return "\n".join(lines) + "\n"
