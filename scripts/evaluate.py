"""The same as `jaxvision evaluate`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate", sys.argv[1:]))
