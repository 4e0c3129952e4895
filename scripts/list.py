"""The same as `jaxvision list`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("list", sys.argv[1:]))
