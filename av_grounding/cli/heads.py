"""`av-grounding heads`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from av_grounding.evaluation.head_check import HeadCheck


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "heads",
        parents=parents,
        help="show which head answers sound and which speech",
        description="Play a bundle clips of sound and of speech and show which head answers "
        "which. Exit code 1 if the heads are swapped.",
    )
    options.add_model(parser)
    parser.add_argument("--image", type=Path, metavar="IMAGE", help="a picture that shows both")
    parser.add_argument("--sound", type=Path, metavar="AUDIO", help="a sound of what is in IMAGE")
    parser.add_argument("--speech", type=Path, metavar="AUDIO", help="words about what is there")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.evaluation.head_check import Trial, check_heads, synthetic_trials

    files = {name: getattr(args, name) for name in ("image", "sound", "speech")}
    given = [f"--{name}" for name, path in files.items() if path is not None]
    if given and len(given) < len(files):
        raise ValueError(
            f"got {' and '.join(given)}, expected --image, --sound and --speech together, or none"
        )
    if given:
        from av_grounding.sources.media_file import MediaFile
        from av_grounding.sources.still import read_image

        clips = {head: MediaFile(files[head]).read_audio() for head in ("sound", "speech")}
        trials = [Trial(read_image(args.image), clips["sound"], clips["speech"])]
    else:
        trials = synthetic_trials()
    grounder = options.load_grounder(args, options.load_settings(args), compiles=False)
    with console.progress(args, "Listening", 2 * len(trials), "clips") as advance:
        check = check_heads(grounder.backend, trials, advance)
    console.show(args, check.as_dict(), *_readable(check))
    return 1 if check.is_swapped else 0


def _readable(check: HeadCheck) -> list:
    from rich.table import Table

    table = Table("head", "sound clips", "speech clips", "answers", box=None)
    for head, responses in check.responses.items():
        values = (f"{responses[kind]:.4g}" for kind in ("sound", "speech"))
        table.add_row(head, *values, check.answers[head])
    verdict = {
        True: "Swapped: import again with the other --first-head.",
        False: "As named.",
        None: "Unclear: no verdict from these clips; try --image, --sound and --speech.",
    }
    return [table, verdict[check.is_swapped]]
