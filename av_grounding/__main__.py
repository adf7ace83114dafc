"""`python -m av_grounding` is the command line."""

from av_grounding.cli import console

console()
