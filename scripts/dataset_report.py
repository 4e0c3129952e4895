"""The same as `jaxvision dataset_report`."""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("dataset_report", sys.argv[1:]))
