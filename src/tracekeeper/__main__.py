"""``python -m tracekeeper`` is the command line."""

import sys

from tracekeeper.cli import main

if __name__ == "__main__":
    sys.exit(main())
