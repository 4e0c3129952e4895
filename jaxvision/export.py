"""Export the parameters of a workdir as safetensors under timm's names, with a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxvision import registry, reports, specs, storage
from jaxvision import run as runs
from jaxvision.engine import logs
from jaxvision.initial_weights import origins
from jaxvision.interfaces import Model, Tree
from jaxvision.model_card import model_card
from jaxvision.new_folder import new_folder
from jaxvision.pretrained import computes_otherwise, peers
from jaxvision.trees import flatten_with_paths
from jaxvision.weights import files as weight_files
from jaxvision.weights import mapping as weights


def export(
    workdir: str | Path | runs.Trained,
    folder: str | Path,
    *,
    format: Literal["timm"] = "timm",
    plugins: Sequence[str] = (),
) -> Path:
    """Write model.safetensors, config.json (classes, preprocessing) and README.md to a folder; return its path.

    timm loads it with `timm.create_model("local-dir:FOLDER", pretrained=True)`, this package with `init_from=FOLDER`.
    README.md is a model card: use, data, metrics of the workdir's reports of this checkpoint, license and limits.

    Args:
        workdir: a workdir, or a loaded run.
        folder: folder to write to, new or empty.
        format: only "timm".
        plugins: plug-in files that the run needs.

    Raises:
        ValueError: if timm does not have the model or computes it differently, or the folder is not empty.
    """
    trained = workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, plugins=plugins)
    spec, signature = trained.run.config.model, trained.run.signature
    name = specs.parse(spec).name
    names = registry.models.entry(name).metadata.get("names", {})
    if "timm" not in names:
        raise ValueError(f"timm has no model like {name!r}; export needs a model that timm has")
    if computes_otherwise(spec, "timm"):
        raise ValueError(f"weights of {spec!r} cannot be exported: {computes_otherwise(spec, 'timm')}")
    target = Path(folder).expanduser()
    metadata = registry.models.entry(name).metadata
    architecture = peers(name).get("timm", name)
    with new_folder(target) as written:
        weight_files.write(
            written,
            weights.export(trained.params, trained.model_state, names["timm"]),
            architecture=architecture,
            preprocessing=signature.preprocessing,
            classes=signature.classes,
            num_outputs=trained.run.task.output_size,
            pooling=metadata.get("pooling"),
            is_fixed_size=weights.POSITIONS in trained.params,
            layers=replaceable_layers(trained.run.model, trained.params, names["timm"]),
        )
        storage.write_text(written / "README.md", card_of(trained, architecture=architecture))
    return target


def card_of(trained: runs.Trained, *, architecture: str) -> str:
    """Return the model card of a loaded run, with the reports in its workdir that are of its checkpoint.

    Other reports, and damaged ones, are named in the card.
    """
    rows = logs.read_rows(trained.workdir / "metrics.jsonl")
    monitor, num_validation = trained.run.task.monitor, trained.run.signature.num_validation or 0
    chosen = reports.describe_checkpoint(trained.checkpoint, rows, monitor, trained.step, num_validation)
    used, notes = [], []
    for folder in ("report", "report_validation"):
        file, name = trained.workdir / folder / "report.json", f"{folder}/report.json"
        if not file.exists():
            continue
        try:
            report = storage.read_json(file, _checked)
        except (ValueError, OSError):
            notes.append(f"{name} is damaged and left out")
            continue
        if report["step"] == trained.step:
            used.append(report)
        else:
            notes.append(f"{name} is left out: it is of the checkpoint of step {report['step']}")
    return model_card(
        trained, used, architecture=architecture, chosen=chosen, origins=origins(trained.run.config), notes=notes
    )


def _checked(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report. Raises TypeError, ValueError or KeyError if it lacks what the card needs."""
    count, parts = (
        report["num_examples"],
        (report.get(name, {}) for name in ("macro", "micro", "baseline", "per_class")),
    )
    if type(count) is not int or count < 1 or type(report["step"]) is not int:
        raise ValueError("its step or num_examples is no number")
    if not isinstance(report["split"], str) or not all(isinstance(part, dict) for part in parts):
        raise TypeError("a part of it is of another type")
    return report


def replaceable_layers(model: Model, params: Tree, rules: weights.Rules) -> dict[str, str]:
    """Return timm's names of the layers that its num_classes= and in_chans= replace: classifier and first_conv."""
    paths = {"classifier": f"{model.head}/kernel", "first_conv": weights.STEM}
    known = flatten_with_paths(params)
    return {
        name: weights.their_name(path, rules).removesuffix(".weight") for name, path in paths.items() if path in known
    }
