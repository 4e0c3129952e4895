"""The same as `jaxvision convert`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("convert", sys.argv[1:]))
