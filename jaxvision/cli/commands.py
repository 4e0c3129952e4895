"""The commands by name, and the installed program that runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from jaxvision.cli.converting import convert
from jaxvision.cli.data import dataset_report, preview
from jaxvision.cli.errors import BAD_INPUT, run_command
from jaxvision.cli.flags import Argv
from jaxvision.cli.judging import evaluate, predict
from jaxvision.cli.listing import list_registered
from jaxvision.cli.training import launch, sweep
from jaxvision.specs import nearest

COMMANDS: dict[str, Callable[[Argv], None]] = {
    "launch": launch,
    "sweep": sweep,
    "evaluate": evaluate,
    "predict": predict,
    "preview": preview,
    "dataset_report": dataset_report,
    "list": list_registered,
    "convert": convert,
}


def run(verb: str, argv: Argv) -> int:
    """Run a command by its name and return its exit status, as `run_command`."""
    return run_command(COMMANDS[verb], argv, verb)


def main() -> None:
    """Run what the words after `jaxvision` say: launch|sweep|evaluate|predict|preview|dataset_report|list|convert …"""
    verb, argv = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if verb in ("--help", "-h", "help"):
        print("\n".join((function.__doc__ or "").strip() for function in COMMANDS.values()))
        sys.exit(0)
    if verb == "--version":
        import jaxvision

        print(f"jaxvision {jaxvision.__version__}")
        sys.exit(0)
    if verb not in COMMANDS:
        near = nearest(verb, COMMANDS)
        print(f"jaxvision: unknown command {verb!r}{near}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    sys.exit(run(verb, argv))
