"""The same as `jaxvision torture`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("torture", sys.argv[1:]))
