"""The same as `jaxvision scaling`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("scaling", sys.argv[1:]))
