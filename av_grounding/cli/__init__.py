"""The command line: it composes the package's parts and computes nothing itself."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from typing import NoReturn

from av_grounding import __version__
from av_grounding.cli import (
    bench,
    calibrate,
    classes,
    data,
    doctor,
    evaluate,
    export,
    ground,
    heads,
    import_,
    render,
    reproduce,
    run,
    separate,
    synth,
    teach,
    train,
    vocabulary,
)
from av_grounding.extras import explain

EXIT_MISTAKE = 2
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
AT_ONCE_S = 0.5
"""Interrupts that follow each other this closely are one."""
DEBUG_ENVIRONMENT_VARIABLE = "AV_GROUNDING_DEBUG"

COMMANDS = (
    run,
    render,
    ground,
    separate,
    import_,
    heads,
    vocabulary,
    calibrate,
    classes,
    synth,
    data,
    train,
    teach,
    reproduce,
    evaluate,
    export,
    bench,
    doctor,
)


class Parser(argparse.ArgumentParser):
    """Answers a mistake in one line; the usage is one --help away."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole parser; building it loads none of the parts that the commands use."""
    # Two of them: a default that is set on the one would hide the other's option.
    shared = _shared_options()
    parser = Parser(
        prog="av-grounding",
        description="Where a sound comes from and what spoken words refer to, as heatmaps.",
        parents=[_shared_options()],
    )
    parser.set_defaults(quiet=False, json=False)
    parser.add_argument("--version", action="version", version=f"av-grounding {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers, parents=[shared])
    return parser


def _shared_options() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--quiet", action="store_true", help="no progress and no tables")
    shared.add_argument(
        "--json", action="store_true", help="print the result as JSON, and no more"
    )
    return shared


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for a user's mistake, 130 for Ctrl-C.

    Whatever goes wrong is one line on stderr; AV_GROUNDING_DEBUG=1 shows the traceback.
    """
    try:
        args = build_parser().parse_args(argv)
        level = logging.ERROR if args.quiet else logging.WARNING
        logging.basicConfig(level=level, format="av-grounding: %(message)s")
        return args.execute(args) or 0
    except KeyboardInterrupt:
        _explain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) has left: nothing to say and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except (BrokenExecutor, MemoryError) as error:
        if os.environ.get(DEBUG_ENVIRONMENT_VARIABLE):
            raise
        _explain(_out_of_memory(error))
        return EXIT_MISTAKE
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get(DEBUG_ENVIRONMENT_VARIABLE):
            raise
        _explain(_one_line(error))
        return EXIT_MISTAKE
    except Exception as error:
        if os.environ.get(DEBUG_ENVIRONMENT_VARIABLE):
            raise
        _explain(
            f"internal error: {type(error).__name__}: {_one_line(error)} (a bug in av_grounding: "
            f"{DEBUG_ENVIRONMENT_VARIABLE}=1 shows where)"
        )
        return EXIT_INTERNAL


def console() -> NoReturn:
    """`av-grounding` itself: exits with the command's code, whoever presses Ctrl-C again."""
    terminated = []
    heard_s = -math.inf

    def interrupt(*_: object) -> None:
        nonlocal heard_s
        # A terminal tells the whole group, and what started us may pass it on: one Ctrl-C twice.
        is_new = time.monotonic() - heard_s > AT_ONCE_S
        heard_s = time.monotonic()
        if is_new:
            raise KeyboardInterrupt

    def terminate(number: int, _: object) -> None:
        # An orderly end is written once, for Ctrl-C, which a shell may have had ignored.
        terminated.append(number)
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGINT, interrupt)
        signal.raise_signal(signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not in UTF-8 lacks some signs, and needs none of them.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = main()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        # All is closed: while the interpreter shuts down, the signal's default would kill it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = EXIT_TERMINATED if terminated else code
        # An interrupt within exec(), which dataclasses call while modules load, makes Python end
        # itself by the signal in place of the code, if it is left to end by itself.
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _explain(message: str) -> None:
    print(f"av-grounding: {message}", file=sys.stderr)


def _out_of_memory(error: BaseException) -> str:
    if isinstance(error, BrokenExecutor):
        return (
            "a worker process was killed, as happens when memory runs out: free memory, or use "
            "fewer --workers"
        )
    return f"out of memory ({_one_line(error)}): free some, or ask for less at once"


def _one_line(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and str(error) == f"No module named {error.name!r}":
        return explain(error.name)
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        return " ".join(f"{named}{error.strerror}".split())
    return " ".join(str(error).split()) or type(error).__name__
