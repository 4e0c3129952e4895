"""The same as `jaxvision benchmark`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("benchmark", sys.argv[1:]))
