"""Ctrl-C while the command line is still importing: one line and exit status 130 instead of a traceback.

This module is imported before all others, and imports little itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import PurePath

PROGRAMS = ("jaxvision", "jaxvision-script", "launch")  # names of the command line's files, without suffix
NOTHING = "interrupted, nothing was written"


def is_command_line(program: str) -> bool:
    """Return whether sys.argv[0] is that of the command line.

    It is "-m" while `python -m jaxvision` imports the package.

    >>> is_command_line("/usr/bin/jaxvision"), is_command_line("-m"), is_command_line("train_my_model.py")
    (True, True, False)
    """
    return program == "-m" or PurePath(program).stem in PROGRAMS


def end(number: int, _frame: object = None) -> None:
    """End the process at once. Nothing has been written, and no other thread has work."""
    os.write(2, f"jaxvision: {NOTHING}\n".encode())
    os._exit(128 + number)


def catch_while_importing() -> None:
    """Let Ctrl-C end the process in one line until a command starts. In a library, Ctrl-C stays as it is."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual and threading.current_thread() is threading.main_thread() and is_command_line(sys.argv[0]):
        signal.signal(signal.SIGINT, end)


catch_while_importing()
