"""`av-grounding export`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from av_grounding.backends.parity import Examples
    from av_grounding.types import Backend, ModelSpec

NUM_CALIBRATION = 32
NUM_UNASKED = 2
"""Examples that the user's cache is judged by, while somebody waits for the first frame."""


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
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
        default="auto",
        help="cpu: fp32, bf16, int8; tensorrt: fp32, fp16, bf16; auto: fp32, or without --out "
        "bf16 where the processor has it and it agrees (auto)",
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
        metavar="DIR",
        help="a new bundle, or one of the same weights that the graphs are added to; default: the "
        "user's cache, where auto looks first (cpu)",
    )
    parser.add_argument(
        "--num", type=options.positive_int, default=100, help="test samples to compare on (100)"
    )
    parser.add_argument(
        "--examples",
        metavar="PATH",
        help="a video, a bag, or a folder of media files: what int8 learns its ranges from and "
        "what the export is judged by, instead of scenes of the world that the bundle knows",
    )
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of all samples (0)")
    parser.set_defaults(execute=execute)


def image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected HxW such as 160x208")
    return int(height), int(width)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.backends.export import check_request, export, export_to_cache
    from av_grounding.backends.image_sizes import checked_image_size
    from av_grounding.config import default_bundle
    from av_grounding.modeling.bundle_config import read_config, spec_from_json

    bundle = Path(args.model or default_bundle())
    if args.out is None and (args.backend != "cpu" or args.image_size):
        raise ValueError(
            "got no --out, expected one: only --backend cpu without --image-size is compiled into "
            "the user's cache"
        )
    precision = args.precision
    if args.out is not None:
        precision = "fp32" if precision == "auto" else precision
        check_request(bundle, args.out, args.backend, precision)
    config = read_config(bundle)
    spec = spec_from_json(config["spec"])
    size = checked_image_size(spec, args.image_size)
    with console.progress(args, "Reading examples", None, "done") as advance:
        inputs = _examples(args, spec, size, precision, config, advance)
        if args.out is None:
            advance(0, description="Compiling into the cache")
            report = export_to_cache(bundle, precision, inputs.test, is_real=inputs.is_real)
            where = "in the user's cache"
        else:
            advance(0, description=f"Compiling for {args.backend}")
            report = export(
                bundle,
                args.out,
                args.backend,
                precision=precision,
                device=args.device,
                image_size=size,
                calibration=inputs.calibration,
                examples=inputs.test,
                measure=inputs.measure,
            )
            where = f"{args.out / args.backend}: graphs, parity.json, parity.md"
    console.show(args, report, _readable(report), where)
    return 0


@dataclass(frozen=True)
class _Inputs:
    """What an export learns its ranges from, and what it is judged by."""

    calibration: Examples
    test: Examples
    measure: Callable[[Backend], dict[str, float]] | None
    is_real: bool = True


def _examples(
    args: argparse.Namespace,
    spec: ModelSpec,
    size: tuple[int, int],
    precision: str,
    config: dict[str, Any],
    advance: console.Advance,
) -> _Inputs:
    from av_grounding.cli.export_examples import read_examples

    if args.examples is not None:
        num = min(args.num, NUM_CALIBRATION)
        return _Inputs(*read_examples(args.examples, spec, size, num, advance), None)
    # mAP on drawings means nothing where they were never seen.
    knows_drawings = "source" not in config["info"] and "vocabulary" not in config
    if args.out is None:
        return _few(spec, size, args.seed, knows_drawings)
    num_calibration = NUM_CALIBRATION if precision == "int8" else 1
    if not knows_drawings:
        from av_grounding.evaluation.export_check import everyday_examples

        num_test = min(args.num, NUM_CALIBRATION)
        try:
            return _Inputs(
                everyday_examples(spec, size, num_calibration, args.seed),
                everyday_examples(spec, size, num_test, args.seed, first=num_calibration),
                None,
            )
        except FileNotFoundError as error:
            print(f"av-grounding: examples are drawn ones: {error}", file=sys.stderr)
    return _drawn(args, spec, size, num_calibration, advance, is_measured=knows_drawings)


def _few(spec: ModelSpec, size: tuple[int, int], seed: int, knows_drawings: bool) -> _Inputs:
    """Of the world that the bundle knows, to see that nothing is broken."""
    from av_grounding.evaluation import export_check

    try:
        if knows_drawings:
            drawn = export_check.draw_samples("train", seed, NUM_UNASKED, spec, (size,))
            examples = export_check.examples_of(drawn, spec)
        else:
            examples = export_check.everyday_examples(spec, size, NUM_UNASKED, seed)
    except (ImportError, OSError, RuntimeError, ValueError):
        # Such as no voice to speak with: noise does as well.
        noise = noise_examples(spec, size, NUM_UNASKED)
        return _Inputs(noise, noise, None, is_real=False)
    return _Inputs(examples, examples, None)


def _drawn(
    args: argparse.Namespace,
    spec: ModelSpec,
    size: tuple[int, int],
    num_calibration: int,
    advance: console.Advance,
    *,
    is_measured: bool,
) -> _Inputs:
    """Of the drawn world, with its mAP where that `is_measured`."""
    from av_grounding.evaluation import export_check

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

    examples = [export_check.examples_of(of, spec) for of in (calibration, samples)]
    return _Inputs(*examples, measure if is_measured else None)


def noise_examples(spec: ModelSpec, size: tuple[int, int], num: int) -> Examples:
    """Inputs of the right shapes that mean nothing."""
    import numpy as np

    from av_grounding.backends.parity import Examples

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(num)]
    windows = 0.1 * rng.standard_normal((num, spec.num_window_samples), np.float32)
    return Examples(images, list(windows))


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
    table.add_row("peak", "", f"{report['peak_max']:.1e}", f"{bounds['peak']:g}")
    for head, row in report["map"].items():
        before, after = (f"{100 * row[key]:.2f}" for key in ("before", "after"))
        table.add_row(f"{head} mAP, %", before, after, f"-{bounds['map_points']:g}")
    return table
