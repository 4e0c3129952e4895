"""Export the parameters of a workdir as safetensors under timm's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.interfaces import Model, Tree
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
    """Write model.safetensors and config.json (classes, preprocessing) to a folder; return its path.

    timm loads it with `timm.create_model("local-dir:FOLDER", pretrained=True)`, this package with `init_from=FOLDER`.

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
    with new_folder(target) as written:
        weight_files.write(
            written,
            weights.export(trained.params, trained.model_state, names["timm"]),
            architecture=peers(name).get("timm", name),
            preprocessing=signature.preprocessing,
            classes=signature.classes,
            num_outputs=trained.run.task.output_size,
            pooling=metadata.get("pooling"),
            is_fixed_size=weights.POSITIONS in trained.params,
            layers=replaceable_layers(trained.run.model, trained.params, names["timm"]),
        )
    return target


def replaceable_layers(model: Model, params: Tree, rules: weights.Rules) -> dict[str, str]:
    """Return timm's names of the layers that its num_classes= and in_chans= replace: classifier and first_conv."""
    paths = {"classifier": f"{model.head}/kernel", "first_conv": weights.STEM}
    known = flatten_with_paths(params)
    return {
        name: weights.their_name(path, rules).removesuffix(".weight") for name, path in paths.items() if path in known
    }
