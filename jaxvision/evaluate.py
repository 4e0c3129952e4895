"""The verb evaluate: a workdir's best checkpoint on a split -> report.json, pictures, a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import hosts, logs, parallel, pictures, pipeline, registry
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import write_json
from jaxvision.interfaces import Dataset, Split, Task
from jaxvision.interrupts import Stopped
from jaxvision.step import make_eval_step

NUM_MISTAKES = 25


def never() -> bool:
    """Nothing stops an evaluation."""
    return False


def run_split(
    run: runs.Run,
    eval_step,
    params,
    model_state,
    split: Split,
    batch_size: int,
    *,
    doing: str = "evaluate",
    stop: Callable[[], bool] = never,
):
    """Runs a split through the model: (mean of each value over its examples, predictions [N, …]), on all hosts.

    Raises Stopped where `stop` says so, which is asked after each batch.
    """
    size = parallel.round_up(min(batch_size, len(split)), run.mesh)
    rows = parallel.host_rows(size, run.mesh)
    sums: dict[str, float] = {}
    predictions = []
    with logs.progress(len(split), doing) as bar:
        for start, batch in zip(range(0, len(split), size), pipeline.eval_batches(split, size, rows=rows), strict=True):
            found, predicted = jax.device_get(eval_step(params, model_state, batch))
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in found.items()}
            predictions.append(predicted[: len(split) - start])
            bar.update(len(predictions[-1]))
            if stop():
                raise Stopped
    count = sums.pop("count")
    return {name: total / count for name, total in sums.items()}, np.concatenate(predictions)


def evaluate(
    workdir: str | Path,
    *,
    split: str = "test",
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Judges the best checkpoint of a workdir on a split, writes `report/` or `report_<split>/`, gives the report.

    `dataset` stands in for the config's, as in `train`, where training had data in memory. Raises ValueError where the
    data are not those of the run.
    """
    path = workdirs.require(workdir)
    trained = runs.load(path, plugins=plugins)
    config = trained.run.config
    place = data_dir or trained.run.signature.data_dir
    preprocessing = trained.run.signature.preprocessing if config.init_from else None
    data = runs.open_dataset(config, data_dir=place, dataset=dataset, preprocessing=preprocessing)
    if runs.fingerprint(data) != trained.run.signature.data:
        raise ValueError(f"these are not the data that the run in {str(path)!r} was trained on: its splits would mix")
    chosen = runs.splits(data).get(split)
    if chosen is None:
        raise ValueError(
            f"no split {split!r}{registry.nearest(split, runs.splits(data))}; {', '.join(runs.splits(data))}"
        )
    eval_step = parallel.compile_eval(make_eval_step(trained.run.model, trained.run.task), trained.run.mesh)

    def measure(part: Split):
        return run_split(trained.run, eval_step, trained.params, trained.model_state, part, config.eval_batch_size)

    values, predictions = measure(chosen)
    if not np.isfinite(predictions).all():
        raise FloatingPointError(
            f"the predictions of step {trained.step} in {str(path)!r} are not finite: its training had diverged; begin "
            "anew with a lower --learning_rate"
        )
    report = {
        "split": split,
        "num_examples": len(chosen),
        "num_parameters": runs.num_parameters(trained.params),
        "step": trained.step,
        **values,
        **trained.run.task.report(chosen.targets, predictions, data.classes),
    }
    if split != "train":
        report["train"] = _train_share(data, len(chosen), measure)
        report["gap"] = {name: report["train"][name] - value for name, value in values.items()}
    if hosts.is_first():
        _write(path, report, chosen, predictions, data.classes, trained.run.task)
    return report


def _write(path: Path, report: dict[str, Any], split: Split, predictions, classes: Sequence[str], task: Task) -> None:
    """Writes the report and its pictures into a folder of the workdir, named by the split."""
    folder = path / ("report" if report["split"] == "test" else f"report_{report['split']}")
    folder.mkdir(exist_ok=True)
    write_json(folder / "report.json", report)
    _draw(folder, report, logs.read_rows(path / "metrics.jsonl"), classes)
    _draw_mistakes(folder, split, predictions, task.decide(predictions), classes)


def _train_share(data: Dataset, num_examples: int, measure) -> dict[str, float]:
    """Measures as many examples of train, evenly spread, as the split has: what the gap is measured by."""
    size = min(num_examples, len(data.train))
    share = data.train.take(np.linspace(0, len(data.train) - 1, size, dtype=int))
    return {"num_examples": size, **measure(share)[0]}


def _draw(folder: Path, report: dict[str, Any], rows: list[logs.Row], classes: Sequence[str]) -> None:
    if "confusion_matrix" in report:
        pictures.confusion_matrix(np.array(report["confusion_matrix"]), classes, folder / "confusion_matrix.png")
    pictures.curves(rows, folder / "curves.png", chosen_step=report["step"])


def _draw_mistakes(folder: Path, split: Split, predictions, decided, classes: Sequence[str]) -> None:
    """Draws the wrong answers that were given with most confidence; no picture where there are none."""
    confidence = predictions[np.arange(len(decided)), decided]
    wrong = np.flatnonzero(decided != split.targets)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:NUM_MISTAKES]
    captions = [
        f"{classes[int(decided[i])]} {confidence[i]:.0%}\nis {classes[int(split.targets[i])]}"
        + (f"\n{_shortened(Path(str(split.names[i])).name)}" if len(split.names) else "")
        for i in worst.tolist()
    ]
    file = folder / "mistakes.png"
    if len(worst):
        pictures.images(split.read(worst), captions, file)
    else:
        file.unlink(missing_ok=True)


def _shortened(name: str, *, length: int = 22) -> str:
    """Leaves the middle of a long name out."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def format_report(report: dict[str, Any]) -> str:
    """Writes the report as a table for the terminal; the accuracy stands in its last line."""
    width = max(12, *(len(name) for name in report["per_class"]))
    lines = [f"{'':{width}} precision  recall      f1  examples"]

    def line(name: str, scores: dict[str, float], count: int) -> str:
        return f"{name:{width}} {scores['precision']:9.4f} {scores['recall']:7.4f} {scores['f1']:7.4f} {count:9,}"

    lines += [line(name, scores, scores["num_examples"]) for name, scores in report["per_class"].items()]
    lines += [line(f"{name} mean", report[name], report["num_examples"]) for name in ("macro", "weighted")]
    confused = [f"{p['true']} as {p['predicted']} {p['count']}x" for p in report["most_confused"][:3]]
    if confused:
        lines.append(f"most confused: {', '.join(confused)}")
    if "gap" in report:
        lines.append(f"accuracy on train {report['train']['accuracy']:.4f}, gap {report['gap']['accuracy']:+.4f}")
    names = ("loss", "auroc", "average_precision", "expected_calibration_error", "top_5_accuracy", "accuracy")
    figures = [f"{name.replace('_', ' ')} {report[name]:.4f}" for name in names if name in report]
    lines.append(f"{report['split']} of {report['num_examples']:,}: {', '.join(figures)}")
    return "\n".join(lines)
