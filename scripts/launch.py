"""`jaxvision train` as a script."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("launch", sys.argv[1:]))
