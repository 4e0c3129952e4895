"""The introductory network on CIFAR-10, 122,570 parameters, with flip, crop and one cycle.

jaxvision launch --experiment=cifar10_cnn
"""

from jaxvision import Config

CONFIG = Config(
    model="cnn",
    dataset="cifar10",
    augment="flip, crop(padding=2, mode='reflect')",
    schedule="one_cycle",
    learning_rate=4e-3,
    epochs=20,
)
