"""`av-grounding teach`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "teach",
        parents=parents,
        help="add a thing of your own to a bundle, from a few pictures and sounds",
        description="Add a thing to a bundle with a vocabulary: prototypes are means of your "
        "examples, so it takes seconds. Says what your examples are now taken for.",
    )
    parser.add_argument("name", metavar="NAME", help="what you call it, such as 'kettle'")
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="default: the shipped one")
    parser.add_argument(
        "--picture",
        action="append",
        required=True,
        metavar="FILE[:X0,Y0,X1,Y1]",
        help="the thing cut out (PNG with transparency), in a box (pixels), or filling the "
        "picture; may be given again",
    )
    parser.add_argument(
        "--sound",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="what it sounds like",
    )
    parser.add_argument(
        "--spoken",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="its name as you say it; without, the installed speech engines say NAME",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="new bundle")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.config import default_bundle
    from av_grounding.everyday.media import decode_sound
    from av_grounding.training.everyday.teaching import say_name, teach

    with console.busy(args, f"Teaching {args.name!r}"):
        taught = teach(
            args.model or default_bundle(),
            args.out,
            args.name,
            pictures=[_picture(text) for text in args.picture],
            sounds=[decode_sound(path.read_bytes(), str(path)) for path in args.sound],
            sayings=[decode_sound(path.read_bytes(), str(path)) for path in args.spoken]
            or say_name(args.name),
        )
    lines = [f"{args.out} knows {args.name!r}"]
    for kind, answers in taught.taken_for.items():
        shown = ", ".join(f"{thing} {100 * share:.0f} %" for thing, share in answers)
        lines.append(f"your examples ({kind}) are taken for {shown}")
    console.show(args, {"bundle": str(args.out), "taken_for": dict(taught.taken_for)}, *lines)
    return 0


def _picture(text: str):
    import numpy as np

    from av_grounding.everyday.media import decode_picture
    from av_grounding.training.everyday.teaching import ShownThing

    name, _, box = text.partition(":") if ":" in text else (text, "", "")
    rgba = decode_picture(Path(name).read_bytes(), name)
    mask = rgba[..., 3] > 127
    if box:
        try:
            x0, y0, x1, y1 = (int(number) for number in box.split(","))
        except ValueError:
            raise ValueError(f"box {box!r} of {name}; expected X0,Y0,X1,Y1 in pixels") from None
        inside = np.zeros_like(mask)
        inside[max(y0, 0) : y1, max(x0, 0) : x1] = True
        mask &= inside
    image = np.where(rgba[..., 3:] > 0, rgba[..., :3], 127).astype(np.uint8)
    return ShownThing(image, mask)
