"""The command line: `jaxvision VERB --flags`, the same as `python -m jaxvision VERB --flags`."""

from jaxvision.cli.commands import main, run

__all__ = ["main", "run"]
