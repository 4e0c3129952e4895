"""The verb convert: a workdir -> a folder with its parameters as safetensors under timm's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.pretrained import computes_otherwise, peers
from jaxvision.weights import files as weight_files
from jaxvision.weights import mapping as weights


def convert(workdir: str | Path | runs.Trained, folder: str | Path, *, plugins: Sequence[str] = ()) -> Path:
    """Writes model.safetensors and config.json (classes, preprocessing) into a folder, and gives its path.

    timm loads it as `timm.create_model("local-dir:FOLDER", pretrained=True)`, this package as `init_from=FOLDER`.
    Raises ValueError for a model that timm has not, or that computes otherwise than timm's of that name, and for a
    folder that is not empty.
    """
    trained = workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, plugins=plugins)
    spec, signature = trained.run.config.model, trained.run.signature
    name = specs.parse(spec).name
    names = registry.models.entry(name).facts.get("names", {})
    if "timm" not in names:
        raise ValueError(f"timm has no model like {name!r}, so its weights have no names there")
    if computes_otherwise(spec, "timm"):
        raise ValueError(f"weights of {spec!r} cannot be converted: {computes_otherwise(spec, 'timm')}")
    place = Path(folder).expanduser()
    facts = registry.models.entry(name).facts
    weight_files.write(
        place,
        weights.export(trained.params, trained.model_state, names["timm"]),
        architecture=peers(name).get("timm", name),
        preprocessing=signature.preprocessing,
        classes=signature.classes,
        num_outputs=trained.run.task.output_size,
        pooling=facts.get("pooling"),
        is_fixed_size=weights.POSITIONS in trained.params,
    )
    return place
