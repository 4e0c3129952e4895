"""Count the files and code lines that a small training run passes through, which a reader must know to follow it.

`python scripts/trace_path.py [CHECKOUT]` trains two steps on digits, evaluates, saves and resumes, and lists each file
of the package in which a line inside a function ran. Plugin folders, reports with the calibration in them, what runs
only for the HTML page of a report, and the command line are excluded. Code lines exclude blank lines, comments and
docstrings.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

LEFT_OUT = (
    "models/",
    "datasets/",
    "tasks/",
    "augmentations/",
    "losses/",
    "gradients/",
    "optimizers/",
    "schedules/",
    "loggers/",
    "reports/",
    "cli/",
)
LEFT_OUT_FILES = (
    *("calibration.py", "temperature_file.py"),  # metrics of the report, as those in tasks/, and what it stores
    *("reports.py", "pictures.py", "cli.py"),  # the layout of version 0.1
)

RUN = """
import json, os, sys, threading
package, workdir = sys.argv[1], sys.argv[2]
page = os.path.join(package, "reports", "page", "")
seen = set()
def is_for_page(frame):  # or for a thread that reads for it
    for each in (frame, sys._current_frames()[threading.main_thread().ident]):
        while each is not None and not each.f_code.co_filename.startswith(page):
            each = each.f_back
        if each is not None:
            return True
    return False
def trace(frame, event, argument):
    code = frame.f_code
    if code.co_filename.startswith(package) and code.co_flags & 2:  # CO_NEWLOCALS: of functions, not of modules
        place = os.path.relpath(code.co_filename, package)
        if place not in seen and not is_for_page(frame):  # the page reads what a run left; it is an edge, not the path
            seen.add(place)
import jaxvision as jv
threading.settrace(trace)
sys.settrace(trace)
for steps in (2, 3):
    config = jv.Config(dataset="digits", model="cnn(channels=(4,), dense=(8,))", steps=steps, batch_size=16)
    jv.train(config, workdir=workdir)
sys.settrace(None)
threading.settrace(None)
print("SEEN " + json.dumps(sorted(seen)))
"""


def held_lines(source: str) -> set[int]:
    """Return the line numbers of code in Python source, excluding blank lines, comments and docstrings."""
    held: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            held.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return held


def code_lines(file: Path) -> int:
    """Count the code lines of a Python file."""
    return len(held_lines(file.read_text()))


def long_functions(file: Path, *, most: int) -> list[str]:
    """Return the functions of a file that have more than `most` code lines, including nested definitions."""
    source = file.read_text()
    held = held_lines(source)
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    sizes = {node: len(held & set(range(node.lineno, (node.end_lineno or 0) + 1))) for node in functions}
    return [f"{file.name}:{node.lineno} {node.name} ({size})" for node, size in sizes.items() if size > most]


def traced_files(checkout: Path) -> dict[str, int]:
    """Return the files on the path of a run of a checkout, relative to the package, with their code lines."""
    package = checkout.resolve() / "jaxvision"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(package.parent), "JAXVISION_CACHE": folder}
        command = [sys.executable, "-c", RUN, f"{package}{os.sep}", f"{folder}/run"]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the traced run failed: {done.stderr[-2000:]}")
    names = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("SEEN "))[5:])
    kept = [name for name in names if not name.startswith(LEFT_OUT) and name not in LEFT_OUT_FILES]
    return {name: code_lines(package / name) for name in kept}


def main() -> None:
    """Print the files on the path with their code lines, and the sum."""
    counted = traced_files(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent)
    for name, lines in sorted(counted.items(), key=lambda item: -item[1]):
        print(f"{lines:6,}  {name}")
    print(f"{sum(counted.values()):6,}  in {len(counted)} files")


if __name__ == "__main__":
    main()
