"""`av-grounding export`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from av_grounding.types import Backend

NUM_CALIBRATION = 32


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "export",
        parents=parents,
        help="compile a bundle for a backend, and compare it with the original",
        description="Compile a bundle's encoders for a backend and write them beside its "
        "weights, with a parity report against the eager model. An export that differs too much "
        "is not written. Exports for cpu have run on x86-64; tensorrt has not run on a GPU yet.",
    )
    parser.add_argument(
        "--model", type=Path, metavar="BUNDLE", help="bundle directory; default: the shipped one"
    )
    parser.add_argument("--backend", required=True, choices=("cpu", "tensorrt"))
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="cpu: fp32, bf16, int8; tensorrt: fp32, fp16, bf16 (fp32)",
    )
    parser.add_argument("--device", default="auto", help="tensorrt: cuda or cuda:INDEX (auto)")
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="HxW",
        help="the model's input in pixels; default: that of a 4:3 camera",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a new bundle, or one of the same weights that the graphs are added to",
    )
    parser.add_argument(
        "--num", type=options.positive_int, default=100, help="test samples to compare on (100)"
    )
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of all samples (0)")
    parser.set_defaults(execute=execute)


def image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected HxW such as 160x208")
    return int(height), int(width)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.backends.export import check_request, export
    from av_grounding.backends.image_sizes import checked_image_size
    from av_grounding.config import default_bundle
    from av_grounding.evaluation import export_check
    from av_grounding.modeling.bundle import read_config, spec_from_json

    bundle = Path(args.model or default_bundle())
    check_request(bundle, args.out, args.backend, args.precision)
    spec = spec_from_json(read_config(bundle)["spec"])
    size = checked_image_size(spec, args.image_size)
    with console.progress(args, "Drawing samples", None, "done") as advance:
        num_calibration = NUM_CALIBRATION if args.precision == "int8" else 1
        draw = [("train", num_calibration), ("test", args.num)]
        calibration, samples = (
            export_check.draw_samples(split, args.seed, num, spec, (size,)) for split, num in draw
        )
        num_done = 0

        def step() -> None:
            nonlocal num_done
            num_done += 1
            advance(num_done, description="Comparing", total=2 * args.num)

        def measure(backend: Backend) -> dict[str, float]:
            return export_check.synthetic_map(backend, samples, step)

        advance(0, description=f"Compiling for {args.backend}")
        report = export(
            bundle,
            args.out,
            args.backend,
            precision=args.precision,
            device=args.device,
            image_size=size,
            calibration=export_check.examples_of(calibration, spec),
            examples=export_check.examples_of(samples, spec),
            measure=measure,
        )
    folder = args.out / args.backend
    console.show(args, report, _readable(report), f"{folder}: graphs, parity.json, parity.md")
    return 0


def _readable(report: dict) -> Table:
    from rich.table import Table

    table = Table(
        f"{report['backend']} {report['precision']}", "eager", "export", "bound", box=None
    )
    bounds = report["bounds"]
    for part, row in report["features"].items():
        table.add_row(
            f"{part} features, relative L2", "", f"{row['max']:.1e}", f"{bounds[part]:g}"
        )
    table.add_row(
        "heatmap, largest difference", "", f"{report['heatmap_max']:.1e}", f"{bounds['heatmap']:g}"
    )
    for head, row in report["map"].items():
        before, after = (f"{100 * row[key]:.2f}" for key in ("before", "after"))
        table.add_row(f"{head} mAP, %", before, after, f"-{bounds['map_points']:g}")
    return table
