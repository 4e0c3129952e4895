"""The command export."""

from __future__ import annotations

from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import require
from jaxvision.export import export as run_export


@command(group="Use a trained run")
def export(
    *,
    workdir: str | None = None,
    folder: str | None = None,
    format: Literal["timm"] = option(run_export, "format"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Export the weights of a run in the format of another library.

    Args:
        workdir: folder of a trained run
        folder: new folder to write
        format: timm writes model.safetensors, config.json, which timm loads, and README.md, the model card

    Examples:
        jaxvision export --workdir=runs/first --folder=exported
    """
    require(workdir, "export needs --workdir, the folder of a trained run")
    require(folder, "export needs --folder, the folder to write")
    place = run_export(str(workdir), str(folder), format=format, plugins=plugins)
    print(f"wrote {place / 'model.safetensors'}, config.json and README.md, the model card")
    print(f"timm.create_model({f'local-dir:{place}'!r}, pretrained=True) loads them")
