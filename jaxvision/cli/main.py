"""The installed program: `jaxvision COMMAND --flags`."""

from __future__ import annotations

import sys

from jaxvision import hints
from jaxvision.cli.command import commands
from jaxvision.cli.errors import UsageError, run_command
from jaxvision.cli.flags import Argv, call, summaries
from jaxvision.plugins import load_entry_points, load_plugins


def run(name: str, argv: Argv) -> int:
    """Run a command by its name and return its exit status, as in `run_command`."""
    return run_command(lambda argv: call(commands()[name], argv), argv, name)


def _plugins_in(argv: Argv) -> list[str]:
    """Return the plug-ins that a command line names, as --plugins=FILE or --plugins FILE.

    >>> _plugins_in(["greet", "--plugins", "a.py,b.py", "--plugins=c.py"])
    ['a.py', 'b.py', 'c.py']
    """
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    split = [(*word.lstrip("-").partition("="), after) for word, after in pairs if word.startswith("-")]
    texts = [value if sign else after for name, sign, value, after in split if name == "plugins"]
    return [plugin for text in texts for plugin in text.split(",") if plugin]


def _run_added(argv: Argv) -> None:
    """Run a command that a plug-in adds, or print the list of commands or the version.

    Raises UsageError for a command that does not exist.
    """
    name = argv[0] if argv else "--help"
    if name == "--version":
        import jaxvision

        print(f"jaxvision {jaxvision.__version__}")
        return
    load_entry_points()
    load_plugins(_plugins_in(argv))
    known = commands()
    if name in known:
        call(known[name], argv[1:])
    elif name in ("--help", "-h", "help"):
        print(summaries(known))
    else:
        hint = hints.for_command(name, known)
        raise UsageError(f"unknown command {name!r}{hint}; the commands are {', '.join(known)}")


def main() -> None:
    """Run the command that the arguments of the process name."""
    name, argv = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name not in commands():
        sys.exit(run_command(_run_added, sys.argv[1:], name))
    sys.exit(run(name, argv))
