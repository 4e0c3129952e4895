"""Runs of MLflow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jaxvision.loggers import Logger, register

ID = "mlflow_id.txt"
LONGEST = 500  # characters of a parameter that every store of MLflow takes


@register("mlflow", package="mlflow", extra="mlflow")
def mlflow(
    *, folder: Path, start: int, experiment: str = "jaxvision", name: str | None = None, tracking_uri: str | None = None
) -> Logger:
    """Log to MLflow, with the settings of the run as its parameters.

    A resumed run goes on under the same id, which mlflow_id.txt in the workdir keeps.

    Args:
        folder: The workdir; set by the run.
        start: The first step; set by the run.
        experiment: The name of the experiment.
        name: The name of the run. If None, that of the workdir.
        tracking_uri: The address of the store. If None, MLFLOW_TRACKING_URI, or MLflow's default.
    """
    from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client, path = MlflowClient(tracking_uri), folder / ID
    if path.exists():
        run_id = path.read_text().strip()
        client.set_terminated(run_id, "RUNNING")
    else:
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        run_id = client.create_run(experiment_id, run_name=name or folder.name).info.run_id
        settings = json.loads((folder / "config.json").read_text())
        client.log_batch(run_id, params=[Param(key, str(value)[:LONGEST]) for key, value in settings.items()])
        path.write_text(run_id + "\n")

    def report(row: dict[str, Any]) -> None:
        now = int(1000 * time.time())
        values = {key: value for key, value in row.items() if isinstance(value, float)}
        metrics = [Metric(f"{row['split']}/{key}", value, now, row["step"]) for key, value in values.items()]
        client.log_batch(run_id, metrics=metrics)

    return Logger(report, lambda: client.set_terminated(run_id))
