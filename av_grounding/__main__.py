"""`python -m av_grounding` is the command line."""

import sys

from av_grounding.cli import main

sys.exit(main())
