"""The same as `jaxvision preview`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("preview", sys.argv[1:]))
