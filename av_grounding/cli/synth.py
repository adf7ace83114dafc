"""`av-grounding synth`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "synth",
        parents=parents,
        help="write samples of the synthetic world: images, masks, sound, speech, mixtures",
        description="Write images, masks, wavs and manifest.jsonl; the same seed, the same files. "
        "With --demo, write the demo scene as demo.mp4 instead.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--num", type=options.positive_int, default=100, help="number of samples (100)"
    )
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of the samples (0)")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="train",
        help="splits share no object, sound or voice (train)",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--demo", action="store_true", help="write demo.mp4, the scene of `run demo`, with sound"
    )
    kinds.add_argument(
        "--stages",
        action="store_true",
        help="draw what sounds as shaking, beside silent twins and bystanders (paper 004)",
    )
    kinds.add_argument(
        "--ensembles",
        action="store_true",
        help="duets and trios of sampled instruments, with their photographs in one picture; test "
        "has keys and programs of its own",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    return _write_demo(args) if args.demo else _write_samples(args)


def _write_samples(args: argparse.Namespace) -> int:
    if args.ensembles:
        from av_grounding.everyday.ensemble import write_ensembles as write
    elif args.stages:
        from av_grounding.synthetic.stage_samples import write_stages as write
    else:
        from av_grounding.synthetic.samples import write_samples as write

    with console.progress(args, "Drawing and speaking", args.num, "samples") as advance:
        manifest = write(
            args.out, args.num, args.seed, args.split, lambda done, total: advance(done)
        )
    result = {
        "manifest": str(manifest),
        "num_samples": args.num,
        "split": args.split,
        "seed": args.seed,
    }
    console.show(args, result, f"{args.num} samples of split {args.split}: {manifest}")
    return 0


def _write_demo(args: argparse.Namespace) -> int:
    import heapq

    from av_grounding.recording.overlay_video import OverlayVideo
    from av_grounding.sources.demo import open_demo
    from av_grounding.types import Frame

    path = args.out / "demo.mp4"
    args.out.mkdir(parents=True, exist_ok=True)
    with console.progress(args, "Drawing and speaking", None, "s") as advance:
        frames, chunks = open_demo(realtime=False)
        file = OverlayVideo(path, frames.frame_rate_hz, has_audio=True)
        try:
            for item in heapq.merge(frames, chunks, key=lambda item: item.stamp_ns):
                if isinstance(item, Frame):
                    file.write(item.image, item.stamp_ns)
                    advance(file.duration_s)
                else:
                    file.write_audio(item)
        finally:
            file.close()
    result = {"video": str(path), "duration_s": round(frames.duration_s, 3)}
    console.show(args, result, f"{frames.duration_s:.0f} s: {path}")
    return 0
