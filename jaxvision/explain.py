"""Explain predictions: which parts of an image speak for a class, drawn beside the image."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import heat_maps, image_files, prediction_inputs
from jaxvision import run as runs
from jaxvision.engine import logs
from jaxvision.predict import Inputs
from jaxvision.reports import overlays, plots
from jaxvision.specs import nearest


class Explanations(NamedTuple):
    """What was explained, a row for each readable image.

    `targets` are the names of the explained classes or labels, "value" for a regression, and `values` their predicted
    probabilities, or the numbers. `maps` are the raw heat maps [N, h, w], before they are resized. `files` are the PNG
    files; the raw map of each is in the .npy file of the same name. `errors` maps each unreadable file to its error.
    """

    names: list[str]
    targets: list[str]
    values: np.ndarray
    maps: np.ndarray
    files: list[Path]
    errors: dict[str, str]
    source: str

    def __repr__(self) -> str:
        return f"Explanations({len(self.names)} images, {self.source})"


def explain(
    workdir: str | Path | runs.Trained,
    images: Inputs,
    *,
    method: str = "grad_cam",
    target: str | int | None = None,
    out: str | Path = "explanations",
    checkpoint: str | int = "chosen",
    batch_size: int = heat_maps.BATCH_SIZE,
    on_bad_image: str = "error",
    max_image_pixels: int | None = None,
    plugins: Sequence[str] = (),
) -> Explanations:
    """Draw what a prediction depends on in each image, beside the image; save the raw heat maps.

    Args:
        workdir: The folder of a trained run, or a run from `load`.
        images: Image files, folders or patterns, or images in memory, as for `predict`.
        method: The spec of an explanation, as "grad_cam(layer='stage3')".
        target: The class or label to explain, by name or index; None for the predicted class, or the most probable
            label.
        out: The folder of the PNG and .npy files.
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint.
        batch_size: Images in one compiled call.
        on_bad_image: What to do with an unreadable file: error, or skip to list it among the errors of the result.
        max_image_pixels: Pixels that an image file may have. If None, the limit of training.
        plugins: Modules or .py files that register more, besides those of training.

    Returns:
        The explained classes, the raw maps and the files.

    Raises:
        ValueError: The method does not fit the model, the run has no such class, or a file is no image.
        FileNotFoundError: There is no such workdir or file.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1")
    trained = (
        workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, checkpoint=checkpoint, plugins=plugins)
    )
    chosen = _target_index(trained.run, target)
    explainer = heat_maps.make_explainer(trained, method, batch_size=batch_size)
    source = f"{method} of {explainer.source}" if explainer.source else method
    names, chunks = _read(prediction_inputs.as_sequence(images), trained.run, batch_size, max_image_pixels)
    folder = Path(out).expanduser()
    files = [folder / name for name in _file_names(names)]
    _check_files(files, names)
    rows: list[_Row] = []
    errors: dict[str, str] = {}
    with logs.progress(len(names), "explain") as bar:
        for chunk, results in chunks:
            places = range(chunk.start, chunk.stop)
            good = {place: result for place, result in zip(places, results, strict=True) if _is_read(result)}
            errors.update({names[place]: str(results[place - chunk.start]) for place in places if place not in good})
            if errors and on_bad_image == "error":
                raise ValueError(next(iter(errors.values())))
            explained = _explain_batch(trained, explainer, np.stack([*good.values()]), chosen) if good else []
            for (place, image), (name, value, raw) in zip(good.items(), explained, strict=True):
                rows.append(_Row(names[place], name, value, raw, files[place]))
                _write(rows[-1], image, source)
            bar.update(len(results))
    maps = np.stack([row.raw for row in rows]) if rows else np.zeros((0, 0, 0), np.float32)
    listed = [row.name for row in rows], [row.target for row in rows], np.array([row.value for row in rows])
    return Explanations(*listed, maps, [row.file for row in rows], errors, source)


class _Row(NamedTuple):
    """One explained image."""

    name: str
    target: str
    value: float
    raw: np.ndarray
    file: Path


def _is_read(result: Any) -> bool:
    return not isinstance(result, Exception)


def _target_index(run: runs.Run, target: str | int | None) -> int | None:
    """Return the index of a class by its name or index. Raises ValueError if the run has no such class."""
    if target is None:
        return None
    classes = run.signature.classes
    if run.signature.targets.kind == "continuous":
        raise ValueError(f"--target={target}: this run predicts one number, which is what is explained; remove it")
    if str(target) in classes and not isinstance(target, int):
        return classes.index(str(target))
    if str(target).isdigit() and int(target) < len(classes):
        return int(target)
    shown = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
    raise ValueError(
        f"--target={target}: the run has no such class{nearest(str(target), classes)}; expected one of {shown}, or an "
        f"index from 0 to {len(classes) - 1}"
    )


def _read(
    images: Any, run: runs.Run, batch_size: int, max_pixels: int | None
) -> tuple[list[str], Iterator[tuple[slice, list[Any]]]]:
    """Return the names of images, and chunks of them as they are read."""
    preprocessing = run.signature.preprocessing
    if not prediction_inputs.are_files(images):
        arrays = prediction_inputs.in_memory(images, preprocessing)
        return [str(index) for index in range(len(arrays))], arrays.chunks(batch_size)
    names = image_files.find_images(images)
    limit = max_pixels or run.config.max_image_pixels
    return names, image_files.read_images(names, preprocessing, chunk_size=batch_size, max_pixels=limit)


def _explain_batch(
    trained: runs.Trained, explainer: heat_maps.Explainer, inputs: np.ndarray, chosen: int | None
) -> list[tuple[str, float, np.ndarray]]:
    """Return for each image the name of the explained class, its predicted probability or number, and the raw map."""
    predictions = heat_maps.predictions(trained, inputs, batch_size=max(len(inputs), 1))
    targets = heat_maps.predicted_targets(trained, predictions)
    targets = targets if chosen is None else np.full(len(inputs), chosen)
    maps = explainer.maps(inputs, targets)
    if predictions.ndim == 1:
        return [("value", float(value), raw) for value, raw in zip(predictions, maps, strict=True)]
    classes, rows = trained.run.signature.classes, zip(targets, predictions, maps, strict=True)
    return [(classes[target], float(row[target]), raw) for target, row, raw in rows]


def _write(row: _Row, image: np.ndarray, source: str) -> None:
    """Write the image and its heat map side by side as PNG, and the raw map as .npy."""
    file, raw = row.file, row.raw
    file.parent.mkdir(parents=True, exist_ok=True)
    heat_map = heat_maps.resized(raw[None], image.shape[:2])[0]
    pair = np.stack([overlays.in_color(image), overlays.overlay(image, heat_map)])
    note = "" if raw.any() else "\nnothing: the map is 0"
    title = f"{plots.shortened(file.stem, length=30)}\n{plots.shortened(row.target)} {row.value:.3f}"
    captions = [title, source.replace(" of ", "\nof ", 1) + note]
    plots.images(pair, captions, file, columns=2)
    np.save(file.with_suffix(".npy"), raw)


def _check_files(files: Sequence[Path], names: Sequence[str]) -> None:
    """Raise ValueError if a file that is to be written is one of the images."""
    images = {os.path.realpath(name) for name in names}
    for file in files:
        if os.path.realpath(file) in images:
            raise ValueError(
                f"{str(file)!r} is one of the images, and would be replaced by its heat map: name another --out"
            )


def _file_names(names: Sequence[str]) -> list[str]:
    """Return a PNG file's name for each image: that of the image, with its folders where several have the same.

    >>> _file_names(["a/1.jpg", "a/2.png", "b/1.jpg"])
    ['a_1.png', '2.png', 'b_1.png']
    >>> _file_names(["1.jpg", "1.png", "1-2.jpg"])
    ['1.png', '1-2.png', '1-2-2.png']
    """
    stems, taken = Counter(Path(name).stem for name in names), dict[str, None]()
    for name in names:
        path = Path(os.path.normpath(name))
        stem = path.stem if stems[path.stem] == 1 else "_".join([*path.parts[-2:-1], path.stem]).lstrip("/.")
        candidates = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        taken[next(f"{each}.png" for each in candidates if f"{each}.png" not in taken)] = None
    return [*taken]
