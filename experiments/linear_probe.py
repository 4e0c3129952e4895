"""A new head alone, on the features of a network that was trained on other images: ten photographs of each class.

jaxvision launch --experiment=linear_probe --workdir=runs/linear_probe

On ten kinds of clothes, 100 photographs to learn from and 100 to test, beginning with cifar10_resnet18: test accuracy
0.292 ± 0.023 over 5 seeds, against 0.246 ± 0.043 of the same network from scratch; 6 to 7 s each on two CPU cores
(x86-64, JAX 0.10.2, float32), other work beside them.
data/clothing has the training photographs below train, and those of validation and test together below test; flags
--seed and --split_seed, which draws the ten, were 0 to 4.
"""

from jaxvision import Config

CONFIG = Config(
    model="resnet18",
    dataset="folder(path='data/clothing', image_size=32, per_class=10)",
    init_from="runs/cifar10_resnet18",
    freeze="backbone",
    cache_features=True,
    batch_size=32,
    learning_rate=3e-3,
    steps=300,
    eval_every=100,
    validation_fraction=0.0,
)
