"""The lines and the bar of a run under way: their width, their estimate of the time left, and notebooks."""

import io
import os
import re
import subprocess
import sys

import pytest

from jaxvision.engine import logs


@pytest.fixture(autouse=True)
def _no_event_files(monkeypatch):
    monkeypatch.setattr(logs, "_open_loggers", lambda folder, start: [])


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which tests set."""
    now = [1000.0]
    monkeypatch.setattr(logs.time, "perf_counter", lambda: now[0])
    return now


def report(log, step, **figures):
    train = {"loss": 1.5, "gradient_norm": 0.25, **figures, "learning_rate": 0.1}
    row = {"step": step, "epoch": step / 10, "split": "train", **train, "seconds": 2.0, "data_wait_fraction": 0.1}
    log.report(row, {"step": step, "epoch": 1.0, "split": "validation", "loss": 2.0, "accuracy": 0.5}, num_images=100)


def made(folder, *, start=0, num_steps=100):
    return logs.Log(folder, num_steps=num_steps, batch_size=10, start=start)


@pytest.mark.parametrize("width", [20, 40, 80, 120, 400])
def test_lines_are_as_wide_as_the_terminal_at_most(width, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    report(made(tmp_path), 50, **{f"loss_of_part_{index}": 0.5 for index in range(8)})
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= width and lines[0].startswith("step 50/100")
    assert all(line.startswith("  ") for line in lines[1:]) and (len(lines) == 1) == (width == 400)
    assert not any(line.endswith(" |") or line.strip().startswith("|") for line in lines)
    words = " ".join(line.strip() for line in lines).replace("|", "").split()
    assert words[-3:] == ["waiting", "for", "data"]


def test_a_line_stays_one_where_there_is_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    report(made(tmp_path), 50)
    assert len(capsys.readouterr().out.splitlines()) == 1


def left(text):
    return [found[1] if (found := re.search(r", ([\d:]+) left$", line)) else None for line in text.splitlines()]


@pytest.mark.parametrize("start", [0, 20])
def test_the_time_left_leaves_compilation_out(start, tmp_path, clock, capsys):
    log = made(tmp_path, start=start)
    clock[0] += 300  # the first step compiles
    for step in range(start + 1, start + 31):
        clock[0] += 1
        log.step({"loss": 1.0})
        if step % 10 == 0:
            clock[0] += 5  # the evaluation
            report(log, step)
    rest = 100 - start - 20
    assert left(capsys.readouterr().out) == [None, logs._clock(rest * 1.5), logs._clock((rest - 10) * 1.5)]


def test_a_run_that_resumes_at_an_evaluation_has_no_estimate_of_nothing(tmp_path, clock, capsys):
    log = made(tmp_path, start=19)  # step 20 was saved, and its evaluation is made up for
    report(log, 20)
    clock[0] += 300
    for step in range(21, 41):
        clock[0] += 1
        log.step({"loss": 1.0})
        if step % 10 == 0:
            report(log, step)
    assert left(capsys.readouterr().out) == [None, None, "1:00"]


def test_the_clock_of_the_bar_starts_after_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    log, now = made(tmp_path), [0.0]
    log._bar._time = lambda: now[0]
    log._bar.start_t = log._bar.last_print_t = 0.0
    for second in (300, 301, 302):
        now[0] = second
        log.step({"loss": 1.0})
    assert log._bar.format_dict["elapsed"] == 2
    log._bar.disable = True


NOTEBOOK = """
import sys, types
def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(content)
if "notebook" in sys.argv:
    module("ipykernel"), module("ipykernel.zmqshell"), module("IPython", get_ipython=lambda: None)
    module("IPython.display", display=lambda *shown: None)
if "ipywidgets" in sys.argv:
    class Widget(types.SimpleNamespace):
        def __init__(self, *arguments, children=(), **options):
            super().__init__(children=list(children), layout=types.SimpleNamespace(), style=types.SimpleNamespace())
    names = {name: Widget for name in ("HBox", "VBox", "FloatProgress", "IntProgress", "HTML")}
    module("ipywidgets", __version__="8.0", **names)
else:
    sys.modules["ipywidgets"] = sys.modules["IPython.html"] = None
from jaxvision.engine import logs
bar = logs.progress(10, "train")
print([each.__module__ for each in type(bar).__mro__][1], bar.disable, "IPython" in sys.modules)
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "tqdm.std True False"),
        (["notebook"], "tqdm.std False True"),
        (["notebook", "ipywidgets"], "tqdm.notebook False True"),
    ],
)
def test_a_notebook_has_its_own_bar(words, told, root):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", NOTEBOOK, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == told
