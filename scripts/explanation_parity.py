"""Compare explanations with pytorch-grad-cam and captum: the same weights must give the same raw maps in float64.

Needs the extra `parity`, and the packages grad-cam and captum.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import parity
from absl import flags
from script_flags import parse

from jaxvision import registry, specs
from jaxvision.cli.errors import run_command
from jaxvision.weights import mapping as weights

CLASSES = (1, 207, 404, 980)  # the explained ones of 1,000, an image each
STEPS = 16
EPSILON = 1e-6  # that of pytorch-grad-cam in Grad-CAM++


class Case(NamedTuple):
    """A model, its size, the map that is read, and the path of the module that returns it in timm."""

    model: str
    size: tuple[int, int]
    layer: str
    module: str


CASES = (
    Case("resnet18", (64, 96), "stage4", "layer4"),
    Case("densenet121", (64, 96), "stage4", "features.norm5"),
    Case("mobilenet_v3_small", (64, 96), "stage5", "blocks.4"),
    Case("convnext_tiny", (64, 96), "stage4", "stages.3"),
    Case("vit_tiny_patch16", (48, 64), "block11", "blocks.10"),
)
CAMS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "layer_cam": "LayerCAM",
}


class Row(NamedTuple):
    """One comparison: the largest difference over the largest value, and how many maps of how many are not 0."""

    model: str
    method: str
    difference: float
    num_nonzero: int
    num_maps: int


def spec_of(method: str, layer: str) -> str:
    """Return the spec of ours that computes as theirs."""
    if method == "integrated_gradients":
        return f"integrated_gradients(steps={STEPS}, max_steps={STEPS})"
    return f"{method}(layer={layer!r}{f', epsilon={EPSILON}' if method == 'grad_cam_plus_plus' else ''})"


def compare(case: Case) -> list[Row]:
    """Compare all methods for one model on four random images."""
    peer = parity.peers(case.model)["timm"]
    theirs = parity.original("timm", peer, size=case.size)
    parity.randomise(theirs, size=case.size)
    inputs = np.random.default_rng(0).normal(size=(len(CLASSES), *case.size, 3))
    rows = []
    with jax.enable_x64(True):
        metadata = registry.models.entry(case.model).metadata
        spec = specs.Spec(case.model, metadata.get("options", {}).get("timm", {}))
        model = registry.models.build(spec, output_size=1000)
        shapes, unused = parity.double_shapes(model, inputs), metadata.get("unused", ())
        fitted = weights.fit(parity.tensors_of(theirs), *shapes, metadata["names"], unused=unused)
        target = np.eye(1000)[list(CLASSES)]
        for method in (*CAMS, "integrated_gradients"):
            explain = registry.explanations.build(spec_of(method, case.layer)).explain
            call = jax.jit(lambda *a, explain=explain: explain(model, *a, key=jax.random.key(0)))
            ours = np.asarray(call(fitted.params, fitted.state, inputs, target))
            wanted = _integrated(theirs, inputs) if method not in CAMS else _cam(theirs, method, case, inputs)
            assert ours.shape == wanted.shape, f"{case.model} {method}: {ours.shape} and {wanted.shape}"
            largest = np.abs(wanted).max(axis=(1, 2))
            kept = largest > 0
            off = np.abs(ours - wanted).max(axis=(1, 2)) / np.where(kept, largest, 1)
            rows.append(Row(case.model, method, float(off.max()), int(kept.sum()), len(kept)))
    return rows


def _cam(module: Any, method: str, case: Case, inputs: np.ndarray) -> np.ndarray:
    """Return the raw maps of pytorch-grad-cam, before they are scaled."""
    import pytorch_grad_cam  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # pyright: ignore[reportMissingImports]

    columns = case.size[1] // 16

    def patches(tokens):  # of a transformer, without the class token
        return tokens[:, 1:].reshape(len(tokens), -1, columns, tokens.shape[-1]).permute(0, 3, 1, 2)

    layer, images = module.get_submodule(case.module), torch.tensor(inputs.transpose(0, 3, 1, 2))
    targets = [ClassifierOutputTarget(index) for index in CLASSES]
    reshape = patches if case.model.startswith("vit") else None
    with getattr(pytorch_grad_cam, CAMS[method])(module, [layer], reshape_transform=reshape) as cam:
        cam(images, targets)
        found = (
            each[0].numpy() for each in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
        )
        return np.maximum(cam.get_cam_image(images, layer, targets, *found, eigen_smooth=False), 0)


def _integrated(module: Any, inputs: np.ndarray) -> np.ndarray:
    """Return captum's integrated gradients from 0, summed over the channels."""
    import torch  # pyright: ignore[reportMissingImports]
    from captum.attr import IntegratedGradients  # pyright: ignore[reportMissingImports]

    images = torch.tensor(inputs.transpose(0, 3, 1, 2))
    options = {"n_steps": STEPS, "method": "gausslegendre", "internal_batch_size": len(CLASSES)}
    parts = IntegratedGradients(module).attribute(images, 0.0, target=torch.tensor(CLASSES), **options)
    return parts.detach().numpy().sum(axis=1)


def main(argv: Sequence[str]) -> None:
    """Compare explanations with pytorch-grad-cam and captum: python scripts/explanation_parity.py [MODEL …]"""
    values, names = parse("scripts/explanation_parity.py", main.__doc__ or "", lambda values: None, argv)
    assert isinstance(values, flags.FlagValues)
    worst = 0.0
    for case in CASES:
        if not names or case.model in names:
            for row in compare(case):
                print(
                    f"{row.model:20} {row.method:22} {row.difference:.1e} {row.num_nonzero} of {row.num_maps}",
                    flush=True,
                )
                worst = max(worst, row.difference)
            jax.clear_caches()
    print(f"the largest difference is {worst:.1e} of the largest value of a map")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/explanation_parity.py"))
