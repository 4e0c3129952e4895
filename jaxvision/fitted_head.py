"""Begin a run with a head that is fitted to the features of its pretrained weights."""

from __future__ import annotations

from jaxvision import failures, features, linear_head
from jaxvision import run as runs
from jaxvision.interfaces import Dataset
from jaxvision.pretrained import Start
from jaxvision.weights.files import Weights


def with_fitted_head(start: Start, run: runs.Run, data: Dataset, loaded: Weights) -> Start:
    """Replace the head of a run's first parameters by a logistic regression on the features of train.

    Raises ValueError if the task does not have one output a class, or if the head is not a single linear layer.
    """
    config, name = run.config, run.model.head
    if run.task.output_size != len(data.classes) or data.train.kind != "multiclass":
        raise ValueError(failures.no_output_per_class(config.task, run.task.output_size, len(data.classes)))
    if name is None or start.params[name].keys() != {"kernel", "bias"} or start.params[name]["kernel"].ndim != 2:
        raise ValueError(failures.no_linear_head(config.model))
    backbone = features.Backbone(config.model, config.init_from or "", loaded, data.preprocessing)
    examples = {
        split: (features.features_of(backbone, each, data.preprocessing, doing=f"features of {split}"), each.targets)
        for split, each in (("train", data.train), ("validation", data.validation))
        if each is not None
    }
    head = linear_head.fit_and_choose(examples["train"], examples.get("validation"), len(data.classes))
    if head.kernel.shape != start.params[name]["kernel"].shape:
        raise ValueError(failures.no_linear_head(config.model))
    old = start.params[name]
    fitted = {"kernel": head.kernel.astype(old["kernel"].dtype), "bias": head.bias.astype(old["bias"].dtype)}
    note = f"the head is a logistic regression on {len(data.train):,} examples, C={head.strength:g}"
    return start._replace(params={**start.params, name: fitted}, notes=(*start.notes, note))
