"""The sections of a model card that show how exported weights are used: their input, and code for timm and here."""

from __future__ import annotations

import shlex

from jaxvision import run as runs
from jaxvision import specs
from jaxvision.interfaces import Preprocessing

MOST_SHOWN = 5  # classes that the code prints
COLORS = {1: ("grayscale", "L"), 3: ("RGB", "RGB"), 4: ("RGB and opacity", "RGBA")}  # and Pillow's mode, by channels


def input_lines(preprocessing: Preprocessing) -> list[str]:
    """Return what the model takes, and how an image becomes that."""
    if not preprocessing.is_image:
        return [f"- windows of {preprocessing.size[0]} steps of a time series, {preprocessing.channels} channels"]
    (height, width), crop = preprocessing.size, preprocessing.crop
    color = COLORS.get(preprocessing.channels, (f"{preprocessing.channels} channels",))[0]
    if crop is None:
        how = "the whole image is resized, and its aspect ratio is not kept"
    elif crop == "pad":
        how = "the image is resized to fit, and the borders are filled"
    elif preprocessing.resize == "crop_first":
        how = (
            f"the center is cropped, a square of {crop:g} times the short side, and then resized; timm resizes first, "
            "so that its pixels and outputs differ slightly"
        )
    else:
        divided = "" if crop == 1 else f" divided by {crop:g}"
        how = f"the short side is resized to the size{divided}, and the center is cropped"
    return [
        f"- {color}, {height} × {width} pixels (height × width)",
        f"- {how}; interpolation {preprocessing.interpolation}",
        f"- pixels from 0 to 1, minus the mean {_numbers(preprocessing.mean)}, divided by the deviation "
        f"{_numbers(preprocessing.std)}, by channel",
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def usage_lines(run: runs.Run) -> list[str]:
    """Return the code that loads and runs the exported weights in timm and in this package."""
    if not run.signature.preprocessing.is_image:
        return ["`jaxvision predict` with the workdir; timm has no models of time series."]
    mode = COLORS.get(run.signature.preprocessing.channels, COLORS[3])[1]
    return [
        "With timm, in the folder of this file. Once it is on the Hugging Face Hub, `hf-hub:OWNER/NAME` replaces "
        "`local-dir:.`.",
        "",
        "```python",
        "import timm",
        "import torch",
        "from PIL import Image",
        "",
        'model = timm.create_model("local-dir:.", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)",
        f'image = Image.new("{mode}", (640, 480))  # yours: Image.open("photo.jpg").convert("{mode}")',
        "with torch.inference_mode():",
        "    outputs = model(transform(image)[None])[0]",
        *_of_outputs(run),
        "```",
        "",
        "With jaxvision, which gives the same outputs:",
        "",
        "```python",
        *_ours(run),
        "```",
        "",
        "Training on other images starts from these weights:",
        "",
        "```sh",
        f"jaxvision train --model={shlex.quote(run.config.model)} --init_from=. --dataset=\"folder(path='photos')\"",
        "```",
    ]


def _of_outputs(run: runs.Run) -> list[str]:
    """Return the code that makes of timm's outputs what the task predicts."""
    classes, targets = run.signature.classes, run.signature.targets
    task = specs.parse(run.config.task).name
    if task == "regression":
        return [f"print(float(outputs[0]) * {targets.std!r} + {targets.mean!r})"]
    if task == "binary":
        return [
            "positive = float(outputs.sigmoid()[0])",
            f"for name, probability in zip({classes!r}, (1 - positive, positive)):",
            '    print(f"{name}: {probability:.4f}")',
        ]
    activation = {"multiclass": "softmax(dim=-1)", "multilabel": "sigmoid()"}.get(task)
    if activation is None or len(classes) != run.task.output_size:
        return ["print(outputs)"]
    return [
        'names = model.pretrained_cfg["label_names"]',
        f"top = outputs.{activation}.topk({min(MOST_SHOWN, len(classes))})",
        "for probability, index in zip(top.values.tolist(), top.indices.tolist()):",
        '    print(f"{names[index]}: {probability:.4f}")',
    ]


def _ours(run: runs.Run) -> list[str]:
    preprocessing = run.signature.preprocessing
    height, width = preprocessing.size
    channels = preprocessing.channels
    return [
        "import jax",
        "import jaxvision as jv",
        "import numpy as np",
        "",
        "model, params, state = jv.create_model(",
        f'    {run.config.model!r}, output_size={run.task.output_size}, init_from=".", image_size=({height}, {width}), '
        f"channels={channels}",
        ")",
        f"pixels = np.zeros((1, {height}, {width}, {channels}), np.float32)  # from 0 to 1, resized and cropped",
        f"mean, deviation = np.float32({list(preprocessing.mean)}), np.float32({list(preprocessing.std)})",
        "apply = jax.jit(lambda inputs: model.apply(params, state, inputs, train=False, key=None)[0])",
        "outputs = apply((pixels - mean) / deviation)",
    ]
