"""How the run was made: the command, settings, times, versions, and all metrics."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from jaxvision.config import Config, Execution
from jaxvision.initial_weights import without_folders
from jaxvision.machine import in_units
from jaxvision.reports import terminal
from jaxvision.reports.page.html import Html, details, paragraph, section, table, tag
from jaxvision.reports.page.page_data import PageData, RunFacts

BYTES_PER_PARAMETER = 4  # they are stored in float32


def run_details(data: PageData) -> Html:
    """Return the metrics of the report, and how the run can be repeated."""
    parts = [_metrics(data)]
    if data.run is not None:
        parts += [
            tag("h3", "Repeat the run"),
            tag("pre", command_of(data.run)),
            _facts(data, data.run),
            _settings(data.run),
        ]
    return section("All metrics, and the run", "run", *parts)


def command_of(run: RunFacts) -> str:
    """Return the command that trains the run again: the settings that differ from the defaults.

    Paths have no folders: those of the training machine are nobody else's business.
    """
    changed = {**Config().differences(run.config), **Execution().differences(run.execution)}
    flags = [f"--{name}={_quoted(_shown(value))}" for name, (_, value) in changed.items()]
    flags += [f"--plugins={_quoted(_shown(plugin))}" for plugin in run.signature.plugins]
    return " \\\n  ".join(["jaxvision train --workdir=NEW_FOLDER", *flags])


def _quoted(value: str) -> str:
    """Return a value for a shell, in double quotes if it has single ones."""
    return f'"{value}"' if "'" in value and not set(value) & set('"$`\\!') else shlex.quote(value)


def _shown(value: Any) -> str:
    return without_folders(value) if isinstance(value, str) else str(value)


def _metrics(data: PageData) -> Html:
    figures = terminal.figures(dict(data.report))
    baselines = data.report.get("baseline", {})
    heads = ["metric", data.report["split"], *(["train"] if "train" in data.report else []), *baselines]
    rows = []
    for name, value in figures.items():
        others = [data.report["train"].get(name)] if "train" in data.report else []
        others += [scores.get(name) for scores in baselines.values()]
        rows.append([name.replace("_", " "), f"{value:.4f}", *("" if v is None else f"{v:.4f}" for v in others)])
    return table("All metrics, and those of the trivial baselines", heads, rows)


def _facts(data: PageData, run: RunFacts) -> Html:
    rows: list[Sequence[str]] = []
    trained = [row for row in data.rows if row["split"] == "train" and "seconds" in row]
    if trained:
        rows.append(["time of training", _time(sum(row["seconds"] for row in trained))])
        waits = [row["data_wait_fraction"] for row in trained if "data_wait_fraction" in row]
        if waits:
            rows.append(["waiting for data", f"{100 * sum(waits) / len(waits):.0f} %"])
    parameters = data.report.get("num_parameters", 0)
    rows.append(["parameters", f"{parameters:,}, {in_units(BYTES_PER_PARAMETER * parameters)} in float32"])
    rows += [[f"version of {name}", version] for name, version in sorted(run.signature.versions.items())]
    rows.append(["devices of this evaluation", _devices()])
    return table("Times, memory and versions", ["what", "value"], rows, num_texts=2)


def _devices() -> str:
    import jax

    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _settings(run: RunFacts) -> Html:
    rows = []
    for settings in (run.config, run.execution):
        rows += [[name, _shown(value)] for name, value in dataclasses.asdict(settings).items()]
    listed = table("Settings", ["setting", "value"], rows, num_texts=2)
    return details("All settings", listed, paragraph("Paths are shown without their folders.", note=True))
