"""The zoo against its originals: the same random weights give the same logits here and in torchvision or timm.

Needs the extra `parity` (torch, torchvision, timm, safetensors).
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import registry, weights
from jaxvision.run import num_parameters

SOURCES = ("torchvision", "timm")
BATCH_SIZE = 2


class Row(NamedTuple):
    """One comparison. Differences are the largest, in units of the original's standard deviation."""

    name: str
    source: str
    size: tuple[int, int]
    num_parameters: int
    logits: float
    gradient: float | None  # by the inputs
    back: float | None  # of the logits that timm gives with our parameters, written as safetensors
    seconds: float


def peers(name: str) -> dict[str, str]:
    """What a model is called elsewhere, by library, as its registration states."""
    facts = registry.models.entry(name).facts
    timm = {"timm": facts["weights"].rpartition("/")[2].partition(".")[0]} if "weights" in facts else {}
    torchvision = {"torchvision": facts["torchvision"]} if "torchvision" in facts else {}
    return {**torchvision, **timm}


def import_torchvision() -> Any:
    """Imports torchvision. Its models need none of its own operators, which some builds of torch cannot load."""
    import torch

    found = importlib.util.find_spec("torchvision")
    assert found and found.origin
    try:
        import torchvision
    except RuntimeError:
        fakes = (Path(found.origin).parent / "_meta_registrations.py").read_text()
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in re.findall(r'register_fake\("torchvision::(\w+)"', fakes):
            library.define(f"{name}(Tensor x) -> Tensor")
        _kept.append(library)  # its operators would go with it
        import torchvision
    return torchvision


_kept: list[Any] = []


def original(source: str, name: str, *, size: tuple[int, int]) -> Any:
    """Makes a library's model, in evaluation and float64."""
    if source == "torchvision":
        torchvision = import_torchvision()
        options = {"image_size": size[0]} if name.startswith("vit") else {}
        options |= {"init_weights": False} if name.startswith("inception") else {}
        module = torchvision.models.get_model(name, **options)
    else:
        import_torchvision()  # which timm imports
        import timm

        options = {"img_size": size} if name.startswith(("vit", "deit")) else {}
        module = timm.create_model(name, **options)
    return module.double().eval()


def randomise(module: Any, *, seed: int = 0) -> None:
    """Gives a torch module random statistics, and random values where its parameters are constant or vectors."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5)
            elif tensor.is_floating_point() and (tensor.ndim == 1 or tensor.std() == 0):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))


def tensors_of(module: Any) -> dict[str, np.ndarray]:
    """The tensors of a torch module by name."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def compare(name: str, source: str, *, size: tuple[int, int] | None = None, gradient: bool = False) -> Row:
    """Compares a registered model with its original, in float64: counts, names, logits, and the way back to timm.

    Raises AssertionError where the counts or the names of parameters differ.
    """
    began = time.perf_counter()
    facts, peer = registry.models.entry(name).facts, peers(name)[source]
    size = size or facts["input_size"][:2]
    theirs = original(source, peer, size=size)
    randomise(theirs)
    inputs = np.random.default_rng(0).normal(size=(BATCH_SIZE, *size, 3))
    with jax.enable_x64(True):
        model = registry.models.build(name, output_size=1000)
        params, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(inputs.shape, np.float64))
        tensors = tensors_of(theirs)
        fitted = weights.fit(tensors, params, state, facts["names"])
        wrong = {**fitted.missing, **fitted.unexpected, **fitted.misshapen}
        assert not wrong, f"{name} and {source}'s {peer} differ in {wrong}"
        counts = num_parameters(params), sum(p.numel() for n, p in theirs.named_parameters() if n in fitted.used)
        assert counts[0] == counts[1], f"{name} has {counts[0]:,} parameters, {source}'s {peer} {counts[1]:,}"
        ours, pulled = _apply(model, fitted, inputs, gradient)
    wanted, wanted_pull = _apply_torch(theirs, inputs, gradient)
    assert (wanted.std(axis=0) > 1e-9).all(), f"{source}'s {peer} gives the same logits for all inputs"
    back = _way_back(fitted, facts["names"]["timm"], peer, size, inputs, ours) if source == "timm" else None
    pull = None if wanted_pull is None else _difference(pulled, wanted_pull)
    seconds = time.perf_counter() - began
    return Row(name, source, size, counts[0], _difference(ours, wanted), pull, back, seconds)


def _difference(ours: Any, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - wanted).max() / wanted.std())


def _apply(model, fitted, inputs, gradient):
    def logits(inputs):
        return model.apply(fitted.params, fitted.state, inputs, train=False, key=None)[0]

    if not gradient:
        return np.asarray(jax.jit(logits)(inputs)), None

    def both(inputs):
        outputs, pull = jax.vjp(logits, inputs)
        return outputs, pull(jax.numpy.ones_like(outputs).at[:, ::2].set(-1))[0]

    outputs, pulled = jax.jit(both)(inputs)
    return np.asarray(outputs), np.asarray(pulled)


def _apply_torch(module, inputs, gradient):
    import torch

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
    """Writes our parameters as safetensors, lets timm load them all, and compares its logits with ours."""
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
