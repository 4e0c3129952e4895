"""The same as `jaxvision launch`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("launch", sys.argv[1:]))
