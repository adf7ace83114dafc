"""`av-grounding doctor`"""

from __future__ import annotations

import argparse

from av_grounding.cli import console


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "doctor",
        parents=parents,
        help="what is installed, which devices are seen, what is missing and what mends it",
        description="Look at this machine. Exit code 1 if something necessary is missing.",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    with console.busy(args, "Looking around"):
        from av_grounding.doctor import examine, remedies, table

        findings = examine()
    ready = not any(finding.state == "missing" for finding in findings)
    result = {"ready": ready, "findings": [finding._asdict() for finding in findings]}
    console.show(args, result, table(findings), "", *remedies(findings))
    return 0 if ready else 1
