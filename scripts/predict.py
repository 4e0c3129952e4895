"""The same as `jaxvision predict`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("predict", sys.argv[1:]))
