"""CIFAR-10 to 94 % in 8 epochs, 1,971,352 parameters: the recipe of the speed records.

jaxvision launch --experiment=cifar10_speedrun --workdir=runs/cifar10_speedrun
"""

from jaxvision import Config

CONFIG = Config(
    model="airbench94",
    dataset="cifar10",
    task="multiclass(label_smoothing=0.2)",
    # The record's rates are for the sum over 2,000 examples: 0.67 and 0.053 times 2,000 / 0.24, decay 4e-3 / 0.24.
    optimizer="muon_sgd(dense_ratio=5600.0, bias_ratio=440.0, weight_decay=0.01667)",
    schedule="linear",
    augment="alternating_flip, crop(padding=2, mode='reflect')",
    batch_size=2000,
    epochs=8,
    eval_every=100,
    validation_fraction=0.0,
    views="mirrored_shifted",
    eval_batch_size=1000,
)
