"""Runs of Weights & Biases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from jaxvision.loggers import Logger, register

ID = "wandb_id.txt"


@register("wandb", package="wandb", extra="wandb")
def wandb(
    *,
    folder: Path,
    start: int,
    project: str = "jaxvision",
    name: str | None = None,
    mode: Literal["online", "offline", "disabled"] = "online",
) -> Logger:
    """Log to Weights & Biases, with the settings of the run as its config.

    A resumed run goes on under the same id, which wandb_id.txt in the workdir keeps. Its own files are in WANDB_DIR, by
    default ./wandb, where `mode="offline"` leaves the run for `wandb sync`.

    Args:
        folder: The workdir; set by the run.
        start: The first step; set by the run.
        project: The project.
        name: The name of the run. If None, that of the workdir.
        mode: As in `wandb.init`.
    """
    import wandb as client  # pyright: ignore[reportMissingImports]

    path = folder / ID
    known = path.read_text().strip() if path.exists() else None
    run = client.init(
        project=project,
        name=name or folder.name,
        id=known,
        resume="allow" if known else None,
        mode=mode,
        config=json.loads((folder / "config.json").read_text()),
    )
    path.write_text(run.id + "\n")

    def report(row: dict[str, Any]) -> None:
        values = {f"{row['split']}/{key}": value for key, value in row.items() if key not in ("split", "step")}
        run.log(values, step=row["step"])

    return Logger(report, run.finish)
