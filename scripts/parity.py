"""The same as `jaxvision parity`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("parity", sys.argv[1:]))
