"""The same as `jaxvision sweep`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("sweep", sys.argv[1:]))
