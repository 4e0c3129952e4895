"""Train ResNet-18, 11,181,642 parameters, on CIFAR-10 at 32 pixels, as a starting point for fine-tuning.

jaxvision train --experiment=cifar10_resnet18 --workdir=runs/cifar10_resnet18

The stem is that of ImageNet; a step takes a fifteenth of one with stem='cifar'. Test accuracy 0.840 (seed 0, the
one that other experiments start from), and 0.789 without augmentation (--augmentations=, same seed and epochs,
training accuracy 1.000). Fine-tuned by `layer_decay` on ten photographs in each of ten classes of clothes:
0.414 ± 0.023 over 5 seeds. 32 min on two CPU cores (x86-64, JAX 0.10.2, float32), 400 to 600 images/s, under other
load.

Measured with version 0.1.
"""

from jaxvision import Config

CONFIG = Config(
    model="resnet18",
    dataset="cifar10",
    optimizer="sgd(momentum=0.9, nesterov=True, weight_decay=5e-4)",
    augmentations="horizontal_flip, random_crop(padding=4, mode='reflect')",
    schedule="one_cycle",
    learning_rate=0.05,
    epochs=20,
)
