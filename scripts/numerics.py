"""Compare what the package computes with the sources that it names, and write docs/numerics.md.

Each row is a quantity, its reference and the largest difference. Rows whose library is not installed are left out and
counted.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numerics_metrics
import numerics_preprocessing
import numpy as np
import optax
import parity
from absl import flags
from script_flags import parse, require_no_words

from jaxvision import registry
from jaxvision.augmentations import policies, random_ops
from jaxvision.cli.errors import run_command
from jaxvision.engine.ema import make_update_ema
from jaxvision.engine.precision import with_precision
from jaxvision.interfaces import Model, Preprocessing
from jaxvision.models.layers import BatchNorm

Row = tuple[str, str, float | str]  # quantity, reference, largest difference
OUT = Path(__file__).parents[1] / "docs" / "numerics.md"
ORACLES = ("torch", "torchvision", "timm", "sklearn", "torchmetrics")
RATES = (0.1, 0.2, 0.05, 0.02)
HEAD = """# Numerics

What the package computes beside the source that it names: the largest difference, in float64 where nothing else is
stated. Written by `python scripts/numerics.py`, which needs the extra `parity`, and torchmetrics.

"""
TABLE = ("| quantity | reference | largest difference |", "|---|---|---|")
NOTES = """
## Differences on purpose

- **Batch norm** has PyTorch's definition. In float32 the rounded mean, not the definition, decides the error, here and
  there. Flax's own formula, the mean square minus the squared mean, is wrong by 1,000 at a mean of 3,000.
- **Muon** iterates in the type of the parameters, the author's code and PyTorch in bfloat16; the table has both errors.
- **One cycle** rises linearly, as in the article; PyTorch's default is a cosine. The first and the last rate are equal.
- **EMA** follows TensorFlow's `ExponentialMovingAverage(num_updates=n)`: the decay of update n is at most
  (1 + n) / (10 + n). `--ema_warmup=timm` is the rule of timm's ModelEmaV3 and `--ema_warmup=none` has no warm-up.
- **Augmentations** compute on float32 pixels, without the rounding to whole levels between operations.
"""


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())


def batch_norm() -> list[Row]:
    """Compare outputs, gradients and running statistics with torch.nn.BatchNorm2d."""
    import torch  # pyright: ignore[reportMissingImports]

    rng, rows = np.random.default_rng(0), []
    for mean in (0.0, 30.0, 3_000.0):
        inputs = (rng.normal(size=(64, 8, 8, 8)) + mean).astype(np.float32)
        wide = inputs.astype(np.float64)
        exact = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
        norm = BatchNorm(use_running_average=False)
        ours, new = norm.apply(norm.init(jax.random.key(0), inputs), inputs, mutable=["batch_stats"])
        module = torch.nn.BatchNorm2d(8)
        theirs = module(torch.tensor(inputs).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
        name = f"batch norm in float32, inputs of mean {mean:g} and deviation 1"
        rows += [
            (name, "float64", difference(ours, exact)),
            ("the same, PyTorch's", "float64", difference(theirs, exact)),
        ]
        variance = np.asarray(new["batch_stats"]["var"])
        rows.append((f"running variance, mean {mean:g}", "torch BatchNorm2d", difference(variance, module.running_var)))
    return rows


def run_optimizer(spec: str, start: np.ndarray, gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Return the parameters after steps at RATES."""
    optimizer = registry.optimizers.build(spec, learning_rate=lambda n: jnp.array(RATES)[n])
    params = jnp.asarray(start)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def _problem() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 4)), [scale * rng.normal(size=(6, 4)) for scale in (1e-6, 1.0, 1e-3, 10.0)]


def optimizers() -> list[Row]:
    """Compare four steps, of gradients from 1e-6 to 10 and at changing rates, with torch.optim."""
    import torch  # pyright: ignore[reportMissingImports]

    start, gradients = _problem()
    rows = []
    for spec, name, options in (
        ("sgd(nesterov=True, weight_decay=0.1)", "SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("adam", "Adam", {}),
        ("adamw", "AdamW", {}),
        ("rmsprop(momentum=0.9)", "RMSprop", {"alpha": 0.9, "momentum": 0.9}),
        ("adagrad", "Adagrad", {}),
    ):
        parameter = torch.nn.Parameter(torch.tensor(start))
        optimizer = getattr(torch.optim, name)([parameter], lr=1.0, **options)
        _run_torch(optimizer, parameter, gradients)
        rows.append(
            (
                f"optimizer `{spec}`",
                f"torch {name}",
                difference(run_optimizer(spec, start, gradients), parameter.detach()),
            )
        )
    return rows


def _run_torch(optimizer: Any, parameter: Any, gradients: Sequence[np.ndarray]) -> None:
    import torch  # pyright: ignore[reportMissingImports]

    for rate, gradient in zip(RATES, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.tensor(gradient)
        optimizer.step()


def optimizers_of_timm() -> list[Row]:
    """Compare four steps with the optimizers of timm."""
    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    from timm import optim  # pyright: ignore[reportMissingImports]

    start, gradients = _problem()
    rows = []
    for spec, name, options in (
        ("lion", "Lion", {"weight_decay": 0.1}),
        ("lamb", "Lamb", {"weight_decay": 0.01, "max_grad_norm": None, "eps": 1e-6}),
    ):
        parameter = torch.nn.Parameter(torch.tensor(start))
        _run_torch(getattr(optim, name)([parameter], lr=1.0, **options), parameter, gradients)
        rows.append(
            (
                f"optimizer `{spec}`",
                f"timm {name}",
                difference(run_optimizer(spec, start, gradients), parameter.detach()),
            )
        )
    return rows


def muon() -> list[Row]:
    """Compare Muon, and PyTorch's, which iterates in bfloat16 as the author's code, with his algorithm in float64."""
    import torch  # pyright: ignore[reportMissingImports]

    start, gradients = _problem()
    params, momentum = start.copy(), np.zeros_like(start)
    for rate, gradient in zip(RATES, gradients, strict=True):
        momentum = 0.95 * momentum + 0.05 * gradient
        x = (0.95 * momentum + 0.05 * gradient).T
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        params = params - rate * 0.2 * 6**0.5 * x.T
    parameter = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.Muon([parameter], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    _run_torch(theirs, parameter, gradients)
    source = "K. Jordan's algorithm in float64"
    return [
        ("optimizer `muon`", source, difference(run_optimizer("muon", start, gradients), params)),
        ("the same, PyTorch's, in bfloat16", source, difference(parameter.detach(), params)),
    ]


def schedules() -> list[Row]:
    """Compare the first and last rate of one cycle with PyTorch's, and the cosine with its formula."""
    import torch  # pyright: ignore[reportMissingImports]

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=50), []
    for step in range(50):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        if step < 49:
            theirs.step()
    ours = registry.schedules.build("one_cycle", learning_rate=2.0, num_steps=50)
    ends = difference(
        [float(ours(0)), float(ours(49)), max(float(ours(n)) for n in range(50))], [rates[0], rates[-1], max(rates)]
    )
    cosine = registry.schedules.build("cosine", learning_rate=2.0, num_steps=50)
    formula = [1 + math.cos(math.pi * n / 50) for n in range(51)]
    return [
        ("schedule `one_cycle`: first, last and highest rate", "torch OneCycleLR", ends),
        (
            "schedule `cosine`",
            "torch CosineAnnealingLR's formula",
            difference([float(cosine(n)) for n in range(51)], formula),
        ),
    ]


def average() -> list[Row]:
    """Compare the EMA's rules with their sources over 100 updates."""
    rows = []
    for name, source, decay in (
        ("tensorflow", "min(d, (1 + n) / (10 + n))", lambda n: min(0.9, (1 + n) / (10 + n))),
        ("timm", "timm ModelEmaV3(use_warmup=True)", _decay_of_timm(use_warmup=True)),
        ("none", "timm ModelEmaV3", _decay_of_timm(use_warmup=False)),
    ):
        update, ours, theirs, most = make_update_ema(0.9, name), jnp.ones(()), 1.0, 0.0
        for n in range(100):
            ours = update(ours, jnp.asarray(float(n)), jnp.asarray(n))
            theirs = decay(n) * theirs + (1 - decay(n)) * n
            most = max(most, abs(float(ours) - theirs))
        rows.append((f"EMA, `--ema_warmup={name}`", source, most))
    return rows


def _decay_of_timm(*, use_warmup: bool) -> Callable[[int], float]:
    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    from timm.utils.model_ema import ModelEmaV3  # pyright: ignore[reportMissingImports]

    theirs = ModelEmaV3(torch.nn.Linear(1, 1), decay=0.9, use_warmup=use_warmup)
    return lambda n: theirs.get_decay(n + 1)  # timm counts updates from 1


def random_crops() -> list[Row]:
    """Compare the distribution of 20,000 crops with torchvision's."""
    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    from torchvision.transforms import RandomResizedCrop  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    rows = []
    for size in ((224, 224), (240, 180), (180, 240)):
        image = torch.zeros(3, *size)
        theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(20_000)])
        part, fits = random_ops.rectangles(
            jax.random.key(0), 20_000, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), is_relative=False
        )
        ours = np.stack([part.height, part.width], axis=1)[np.asarray(fits)]
        logs = [np.log(boxes[:, 1] / boxes[:, 0]) for boxes in (ours, theirs)]
        areas = [boxes.prod(axis=1) / math.prod(size) for boxes in (ours, theirs)]
        of = f"random_resized_crop, {size[0]}x{size[1]} pixels"
        source = "torchvision, 20,000 draws each (deviation of a mean: 0.002)"
        rows += [(f"{of}: mean of the log of the ratio", source, difference(logs[0].mean(), logs[1].mean()))]
        rows += [(f"{of}: mean fraction of the area", source, difference(areas[0].mean(), areas[1].mean()))]
    return rows


def random_operations() -> list[Row]:
    """Compare the operations of RandAugment with torchvision's at its default interpolation, in levels."""
    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    from torchvision.transforms import InterpolationMode, autoaugment  # pyright: ignore[reportMissingImports]

    size, rows = (32, 48), []
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    theirs = autoaugment.RandAugment()._augmentation_space(31, size)
    for name in policies.OPERATIONS:
        called = next(each for each in theirs if each.lower() == name.replace("_", ""))
        magnitude = float(theirs[called][0][9]) if theirs[called][0].ndim else 0.0
        which, amount = jnp.full(1, policies.OPERATIONS.index(name)), jnp.full(1, magnitude, jnp.float32)
        images = jnp.asarray(picture[None], jnp.float32) / 255
        images = policies.moved(images, which, amount, fill=0.0, interpolation="nearest")
        ours = 255 * np.asarray(policies.retouched(images, which, amount))[0]
        image = torch.tensor(picture).permute(2, 0, 1)
        wanted = autoaugment._apply_op(image, called, magnitude, InterpolationMode.NEAREST, None).permute(1, 2, 0)
        far = np.abs(ours - wanted.numpy()).max(axis=-1) > 2.1
        levels = f"{difference(np.where(far[..., None], 0, ours), np.where(far[..., None], 0, wanted)):.2g} levels"
        levels += f"; {far.mean():.1%} of the pixels lie between two and take the other" if far.any() else ""
        rows.append((f"randaugment: {name} at magnitude 9", f"torchvision {called}", levels))
    return rows


def losses() -> list[Row]:
    """Compare the focal loss of soft targets with torchvision's, and cross-entropy with PyTorch's."""
    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    from torchvision.ops import sigmoid_focal_loss  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    logits, targets = 4 * rng.normal(size=(64, 5)), rng.random((64, 5))
    soft = targets / targets.sum(axis=1, keepdims=True)
    build = registry.losses.build
    focal = build("focal(gamma=2.0)", activation="sigmoid", num_classes=5)(jnp.asarray(logits), jnp.asarray(targets))
    wanted = sigmoid_focal_loss(torch.tensor(logits), torch.tensor(targets), alpha=-1, gamma=2).mean(1)
    smooth = build("cross_entropy(label_smoothing=0.1)", activation="softmax", num_classes=5)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(soft), label_smoothing=0.1, reduction="none"
    )
    return [
        ("focal loss of sigmoid outputs, soft targets", "torchvision sigmoid_focal_loss", difference(focal, wanted)),
        (
            "cross-entropy with label smoothing, soft targets",
            "torch cross_entropy",
            difference(smooth(jnp.asarray(logits), jnp.asarray(soft)), theirs),
        ),
    ]


def pixels() -> list[Row]:
    """Compare the normalization of all 256 levels with float64."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    model = Model(init=lambda key, inputs: ({}, {}), apply=lambda params, state, inputs, *, train, key: (inputs, state))
    preprocessing = Preprocessing((16, 16), 1, (0.4914,), (0.2471,))
    wanted = (np.arange(256) / 255 - 0.4914) / 0.2471
    rows: list[Row] = []
    for precision in ("f64", "f32"):
        with jax.enable_x64(precision == "f64"):
            outputs, _ = with_precision(model, preprocessing, precision=precision).apply(
                {}, {}, jnp.asarray(levels), train=False, key=None
            )
            rows.append(
                (f"normalized pixels, `--precision={precision}`", "float64", difference(outputs.ravel(), wanted))
            )
    return rows


# Each with the libraries that it needs, and whether it computes in float64.
GROUPS: tuple[tuple[Callable[[], list[Row]], tuple[str, ...], bool], ...] = (
    (batch_norm, ("torch",), False),
    (optimizers, ("torch",), True),
    (optimizers_of_timm, ("torch", "timm"), True),
    (muon, ("torch",), True),
    (schedules, ("torch",), True),
    (average, ("torch", "timm"), True),
    (random_crops, ("torch", "torchvision"), False),
    (random_operations, ("torch", "torchvision"), False),
    (losses, ("torch", "torchvision"), True),
    (pixels, (), False),  # each row sets its own precision
)


SECTIONS = {  # further sections: the function, and the libraries without which it is left out
    "Metrics": (numerics_metrics.rows, ()),  # leaves out single rows
    "Preprocessing": (numerics_preprocessing.rows, ("torch", "torchvision", "timm")),
}


def all_rows() -> tuple[dict[str, list[Row]], list[str]]:
    """Return the rows of each section, and the names of the groups whose libraries are not installed."""
    sections: dict[str, list[Row]] = {"Training": []}
    left_out = []
    for group, needed, is_double in GROUPS:
        if all(importlib.util.find_spec(name) for name in needed):
            with jax.enable_x64(is_double):
                sections["Training"] += group()
        else:
            left_out.append(group.__name__)
    for title, (section, needed) in SECTIONS.items():
        if all(importlib.util.find_spec(name) for name in needed):
            sections[title] = [*section()]
        else:
            left_out.append(title)
    return sections, left_out


def text(sections: dict[str, list[Row]]) -> str:
    """Return the document."""
    lines = []
    for title, rows in sections.items():
        lines += [f"## {title}", "", *TABLE]
        for quantity, source, most in rows:
            lines.append(f"| {quantity} | {source} | {most if isinstance(most, str) else f'{most:.1e}'} |")
        lines.append("")
    return HEAD + "\n".join(lines) + NOTES


def main(argv: Sequence[str]) -> None:
    """Compare definitions with their sources and write docs/numerics.md: python scripts/numerics.py [--out=FILE]"""

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("out", str(OUT), "file to write", flag_values=values)

    values, rest = parse("scripts/numerics.py", main.__doc__ or "", define, argv)
    require_no_words("scripts/numerics.py", rest)
    rows, left_out = all_rows()
    Path(values.out).write_text(text(rows))
    print(text(rows))
    if left_out:
        print(f"left out, because one of {', '.join(ORACLES)} is not installed: {', '.join(left_out)}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/numerics.py"))
