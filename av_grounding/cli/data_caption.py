"""`av-grounding data caption`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "caption",
        parents=parents,
        help="captions of what sounds in a picture and of the rest, beside its shard",
        description="Write what paper 004 trains with: for every clip of sounds one caption for "
        "each of its labels and one for the background, from its middle picture, as "
        "<shard>.captions.jsonl. SHARDS also gets captions.json, caption_problems.jsonl, which "
        "says which clips have none and why, and captions.png, a sheet to look at. A stopped run "
        "goes on behind the finished shards. No code from a hub is run.",
    )
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="what data shard wrote")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--model", metavar="NAME|DIR",
        help="a multimodal language model that transformers holds itself, such as "
        "OpenGVLab/InternVL3-8B-hf",
    )  # fmt: skip
    who.add_argument(
        "--from-labels", action="store_true",
        help="“an image of LABEL” and no background: needs no model, and is what it is compared "
        "with",
    )  # fmt: skip
    parser.add_argument(
        "--prompt", type=Path, metavar="FILE",
        help="what to ask, with {labels} where the classes go (the package's own)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (auto)")
    parser.add_argument(
        "--batch", type=options.positive_int, default=4, help="pictures at once (4)"
    )
    parser.add_argument(
        "--look", type=options.positive_int, metavar="N",
        help="caption the first N clips, write captions.png and nothing else",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.training.data import captioning

    if args.from_labels:
        if args.prompt:
            raise ValueError("--prompt asks a model: expected it with --model")
        captioner: captioning.Captioner = captioning.LabelCaptions()
    else:
        from av_grounding.files import read_text
        from av_grounding.modeling.captioner import PROMPT, MultimodalCaptioner

        prompt = read_text(args.prompt) if args.prompt else PROMPT
        with console.busy(args, f"Loading {args.model}"):
            captioner = MultimodalCaptioner(args.model, device=args.device, prompt=prompt)
    if args.look:
        sheet = args.shards / captioning.SHEET
        with console.busy(args, "Captioning"):
            rows = captioning.look_at(args.shards, captioner, args.look, sheet, args.batch)
        shown = [captioning.lines_of(row) for row in rows]
        result = {"sheet": str(sheet), "captions": ["".join(lines) for lines in shown]}
        console.show(args, result, *(line for lines in shown for line in lines), f"see {sheet}")
        return 0
    with console.progress(args, "Captioning", 1, "clips") as advance:
        report = captioning.caption_shards(
            args.shards, captioner, batch_size=args.batch,
            progress=lambda done, total: advance(done, total=total),
        )  # fmt: skip
    console.show(
        args, report,
        f"{report['num_captioned']} clips have captions, {report['num_problems']} have none: "
        f"{report['problems']}",
    )  # fmt: skip
    return 0
