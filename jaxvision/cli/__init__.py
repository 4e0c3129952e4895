"""The command line: `jaxvision COMMAND --flags`, the same as `python -m jaxvision COMMAND --flags`."""

from jaxvision.cli.main import main, run

__all__ = ["main", "run"]
