"""``python -m tracekeeper.cli``."""

import sys

from tracekeeper.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
