"""The verb convert: a workdir -> a folder with its parameters as safetensors under timm's or torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxvision import registry, weight_files, weights
from jaxvision import run as runs
from jaxvision.pretrained import peers


def convert(
    workdir: str | Path | runs.Trained, folder: str | Path, *, names: str = "timm", plugins: Sequence[str] = ()
) -> Path:
    """Writes model.safetensors and config.json (classes, preprocessing) into a folder, and gives its path.

    timm loads it as `timm.create_model("local-dir:FOLDER", pretrained=True)`, this package as `init_from=FOLDER`.
    Raises ValueError for a model of which no such names are known.
    """
    trained = workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, plugins=plugins)
    spec, signature = trained.run.config.model, trained.run.signature
    name = registry.parse(spec).name
    known = registry.models.entry(name).facts.get("names", {})
    if names not in known:
        of = f"of {', '.join(sorted(known))}" if known else "of no other library"
        raise ValueError(f"the model {name!r} has parameters under the names {of}; not of {names!r}")
    place = Path(folder).expanduser()
    weight_files.write(
        place,
        weights.export(trained.params, trained.model_state, known[names]),
        architecture=peers(name).get(names, name),
        preprocessing=signature.preprocessing,
        classes=signature.classes,
    )
    return place
