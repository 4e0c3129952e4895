"""Compare models with their originals: the same random weights must give the same logits as torchvision or timm.

Needs the extra `parity` (torch, torchvision, timm, safetensors).
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from script_flags import parse

from jaxvision import registry, specs
from jaxvision.cli.errors import require, run_command
from jaxvision.interfaces import Model, Tree
from jaxvision.pretrained import peers
from jaxvision.run import num_parameters
from jaxvision.weights import mapping as weights

SOURCES = ("torchvision", "timm")
BATCH_SIZE = 2


class Row(NamedTuple):
    """One comparison. Differences are maxima, in standard deviations of the original's values."""

    name: str
    source: str
    size: tuple[int, int]
    num_parameters: int
    logits: float
    gradient: float | None  # with respect to the inputs
    back: float | None  # of timm's logits with our exported parameters
    seconds: float


def import_torchvision() -> Any:
    """Import torchvision. Its models need none of its own operators, which some builds of torch cannot load."""
    import torch  # pyright: ignore[reportMissingImports]

    found = importlib.util.find_spec("torchvision")
    assert found and found.origin
    try:
        import torchvision  # pyright: ignore[reportMissingImports]
    except RuntimeError:
        fakes = (Path(found.origin).parent / "_meta_registrations.py").read_text()
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in re.findall(r'register_fake\("torchvision::(\w+)"', fakes):
            library.define(f"{name}(Tensor x) -> Tensor")
        _kept.append(library)  # keeps its operators registered
        import torchvision  # pyright: ignore[reportMissingImports]
    return torchvision


_kept: list[Any] = []


def original(source: str, name: str, *, size: tuple[int, int]) -> Any:
    """Build a library's model, in evaluation mode and float64."""
    if source == "torchvision":
        torchvision = import_torchvision()
        options: Any = {"image_size": size[0]} if name.startswith("vit") else {}
        options |= {"init_weights": True} if name.startswith("inception") else {}  # avoids a warning
        module = torchvision.models.get_model(name, **options)
    else:
        import_torchvision()  # timm imports it
        import timm  # pyright: ignore[reportMissingImports]

        options: Any = {"img_size": size} if name.startswith(("vit", "deit")) else {}
        module = timm.create_model(name, num_classes=1000, **options)  # some registered weights have no head
    return module.double().eval()


def randomise(module: Any, *, size: tuple[int, int], seed: int = 0) -> None:
    """Randomize a torch module: kernels, additions to constant parameters and vectors, and batch statistics.

    Kernels are scaled by their inputs (He et al. 2015): some initial values are so small that the input would not
    affect the logits. Batch norm statistics are those of random images: otherwise, a deep network amplifies rounding
    errors to the size of the logits (in EfficientNet-B7, at 224 pixels, a change of the images came out 2e9 times
    larger).
    """
    import torch  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and (tensor.ndim == 1 or tensor.std() == 0):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
            elif tensor.is_floating_point() and tensor.ndim in (2, 4) and name.endswith("weight"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
                tensor.mul_((2 / tensor[0].numel()) ** 0.5)
        norms = [each for each in module.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative mean, of one batch
            norm.train()
        if norms:
            module(torch.randn((8, 3, *size), generator=generator, dtype=torch.float64))
        for norm in norms:
            norm.eval()


def tensors_of(module: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a torch module by name."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def compare(name: str, source: str, *, size: tuple[int, int] | None = None, gradient: bool = False) -> Row:
    """Compare a registered model with its original in float64: counts, names, logits, and the export to timm.

    Raises AssertionError if the numbers or names of parameters differ.
    """
    began = time.perf_counter()
    metadata, peer = registry.models.entry(name).metadata, peers(name)[source]
    size = size or (metadata["input_size"][0], metadata["input_size"][1])
    theirs = original(source, peer, size=size)
    randomise(theirs, size=size)
    inputs = np.random.default_rng(0).normal(size=(BATCH_SIZE, *size, 3))
    with jax.enable_x64(True):
        # if libraries differ, for example in an epsilon, the registration states the arguments for each
        spec = specs.Spec(name, metadata.get("options", {}).get(source, {}))
        model = registry.models.build(spec, output_size=1000)
        shapes, unused = double_shapes(model, inputs), metadata.get("unused", ())
        fitted = weights.fit(tensors_of(theirs), *shapes, metadata["names"], unused=unused)
        wrong = {**fitted.missing, **fitted.unexpected, **fitted.misshapen}
        assert not wrong, f"{name} and {source}'s {peer} differ in {wrong}"
        counts = num_parameters(fitted.params), sum(p.numel() for n, p in theirs.named_parameters() if n in fitted.used)
        assert counts[0] == counts[1], f"{name} has {counts[0]:,} parameters, {source}'s {peer} {counts[1]:,}"
        ours, pulled = _apply(model, fitted, inputs, gradient)
    assert size is not None
    wanted, wanted_pull = _apply_torch(theirs, inputs, gradient)
    assert wanted.std(axis=0).mean() > 1e-6 * wanted.std(), f"{source}'s {peer} gives the same logits for all inputs"
    back = _way_back(fitted, metadata["names"]["timm"], peer, size, inputs, ours) if source == "timm" else None
    pull = None if wanted_pull is None else _difference(pulled, wanted_pull)
    seconds = time.perf_counter() - began
    return Row(name, source, size, counts[0], _difference(ours, wanted), pull, back, seconds)


def double_shapes(model: Model, inputs: np.ndarray) -> tuple[Tree, Tree]:
    """Return the shapes of a model's parameters and state in float64, to which weights are rounded."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64), shapes)


def _difference(ours: Any, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - wanted).max() / wanted.std())


def _apply(model, fitted, inputs, gradient):
    def logits(params, state, inputs):  # as arguments: gigabytes make poor constants
        return model.apply(params, state, inputs, train=False, key=None)[0]

    if not gradient:
        return np.asarray(jax.jit(logits)(fitted.params, fitted.state, inputs)), None

    def both(params, state, inputs):
        outputs, pull = jax.vjp(partial(logits, params, state), inputs)
        return outputs, pull(jax.numpy.ones_like(outputs).at[:, ::2].set(-1))[0]

    outputs, pulled = jax.jit(both)(fitted.params, fitted.state, inputs)
    return np.asarray(outputs), np.asarray(pulled)


def _apply_torch(module, inputs, gradient):
    import torch  # pyright: ignore[reportMissingImports]

    given = torch.tensor(inputs.transpose(0, 3, 1, 2), requires_grad=gradient)
    with torch.set_grad_enabled(gradient):
        outputs = module(given)
    if not gradient:
        return outputs.numpy(), None
    signs = torch.ones_like(outputs)
    signs[:, ::2] = -1
    (pulled,) = torch.autograd.grad(outputs, given, signs)
    return outputs.detach().numpy(), pulled.numpy().transpose(0, 2, 3, 1)


def _way_back(fitted, rules, peer, size, inputs, ours) -> float:
    """Write our parameters as safetensors, load them in timm, and compare its logits with ours."""
    import safetensors.numpy
    import safetensors.torch

    fresh = original("timm", peer, size=size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        safetensors.numpy.save_file(weights.export(fitted.params, fitted.state, rules), path)
        missing, unexpected = fresh.load_state_dict(safetensors.torch.load_file(path), strict=False)
    missing = [name for name in missing if not weights.IGNORED.search(name)]
    assert not missing and not unexpected, f"timm misses {missing} and does not know {unexpected}"
    return _difference(_apply_torch(fresh, inputs, False)[0], ours)


HEAD = "model                library           size   parameters    logits  gradient      back  seconds"


def line(row: Row) -> str:
    """Return a row of the table as text."""

    def figure(value: float | None) -> str:
        return f"{'' if value is None else f'{value:.1e}':>9}"

    size = f"{row.size[0]}x{row.size[1]}"
    figures = " ".join(map(figure, (row.logits, row.gradient, row.back)))
    return f"{row.name:20} {row.source:12} {size:>9} {row.num_parameters:12,} {figures} {row.seconds:8.1f}"


def compare_all(pattern: str = "*", *, gradients: bool = False) -> list[Row]:
    """Compare all models that match a pattern with all their originals, and print each row.

    Input gradients are compared for the smallest model of each family, or for all. Raises ValueError if nothing can be
    compared.
    """
    names = [name for name in registry.models.names(pattern) if peers(name)]
    if not names:
        raise ValueError(f"no model with an original elsewhere matches {pattern!r}{specs.nearest(pattern, _all())}")
    absent = [each for each in ("torch", "torchvision", "timm") if not importlib.util.find_spec(each)]
    if absent:
        raise ValueError(f"{', '.join(absent)} not installed; install with: pip install 'jaxvision[parity]'")
    smallest = _smallest()
    print(HEAD, flush=True)
    rows = []
    for name in names:
        for source in peers(name):
            rows.append(compare(name, source, gradient=gradients or name in smallest))
            print(line(rows[-1]), flush=True)
            jax.clear_caches()  # compiled programs are not needed again
    worst = max(max(row.logits, row.gradient or 0.0, row.back or 0.0) for row in rows)
    print(f"compared {len(rows)}; the largest difference is {worst:.1e} of the standard deviation")
    return rows


def _all() -> list[str]:
    return [name for name in registry.models.names() if peers(name)]


def _smallest() -> set[str]:
    """Return the model with the fewest parameters of each family, which is a module."""
    families: dict[str, list[str]] = {}
    for name in _all():
        families.setdefault(registry.models.entry(name).factory.__module__, []).append(name)
    return {
        min(names, key=lambda n: registry.models.entry(n).metadata["num_parameters"]) for names in families.values()
    }


def main(argv: Sequence[str]) -> None:
    """Compare models with their originals in torchvision and timm: python scripts/parity.py [PATTERN] [--gradients]"""

    def define(values):
        help = "compare input gradients of all models instead of the smallest of each family"
        flags.DEFINE_bool("gradients", False, help, flag_values=values)

    values, rest = parse("scripts/parity.py", main.__doc__ or "", define, argv)
    require(len(rest) < 2, f"parity accepts one pattern, as 'resnet*', not {len(rest)}")
    compare_all(rest[0] if rest else "*", gradients=values.gradients)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/parity.py"))
