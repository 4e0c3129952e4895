"""ResNet-18 on CIFAR-10 at its 32 pixels, 11,181,642 parameters: a network that others can begin with."""

from jaxvision import Config

CONFIG = Config(
    model="resnet18",
    dataset="cifar10",
    optimizer="sgd(momentum=0.9, nesterov=True, weight_decay=5e-4)",
    augment="flip, crop(padding=4, mode='reflect')",
    schedule="one_cycle",
    learning_rate=0.05,
    epochs=20,
)
