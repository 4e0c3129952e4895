"""CIFAR-10 to 94 % in 8 epochs, 1,971,352 parameters: the recipe of the speed records.

jaxvision launch --experiment=cifar10_speedrun --workdir=runs/cifar10_speedrun

Test accuracy 0.9400 (seed 0) on two CPU cores (x86-64, JAX 0.10.2, float32): 77 minutes from the command to the test,
as other work ran beside most of it; 200 images/s and so 34 minutes of training where none did. K. Jordan's
airbench94_muon, whose recipe this is, reports 0.9401 (mean of 200 runs) in 2.59 s on an A100, compilation excluded.
Here the bias of the first layer is trained to the end, not for three epochs.
"""

from jaxvision import Config, Execution

CONFIG = Config(
    model="airbench94",
    dataset="cifar10",
    task="multiclass(loss=cross_entropy(label_smoothing=0.2))",
    # The record's rates are for the sum over 2,000 examples: 0.67 and 0.053 times 2,000 / 0.24, decay 4e-3 / 0.24.
    optimizer="muon_sgd(dense_ratio=5600.0, bias_ratio=440.0, weight_decay=0.01667)",
    schedule="linear",
    augment="alternating_flip, crop(padding=2, mode='reflect')",
    batch_size=2000,
    epochs=8,
    eval_every=100,
    validation_fraction=0.0,
)
EXECUTION = Execution(views="mirrored_shifted", eval_batch_size=1000)
