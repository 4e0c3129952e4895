"""Compares the zoo with its originals: python scripts/parity.py [PATTERN]"""

import sys

from jaxvision.cli import run

if __name__ == "__main__":
    sys.exit(run("parity", sys.argv[1:]))
