"""Fine-tune a whole network and a new head together, lower layers at lower rates, on ten photographs per class.

jaxvision train --experiment=layer_decay --workdir=runs/layer_decay

On ten classes of clothes, 100 training and 100 test photographs, starting from cifar10_resnet18: test accuracy
0.414 ± 0.023 over 5 seeds, compared with 0.246 ± 0.043 for the same network from scratch (--init_from=None
--layer_decay=None); 39 to 88 s per run on two CPU cores (x86-64, JAX 0.10.2, float32) under other load.
data/clothing has the training photographs in train, and those of validation and test together in test; --seed and
--split_seed, which draws the ten, were 0 to 4.

Measured with version 0.1.
"""

from jaxvision import Config

CONFIG = Config(
    model="resnet18",
    dataset="folder(path='data/clothing', image_size=32, per_class=10)",
    init_from="runs/cifar10_resnet18",
    layer_decay=0.8,
    augmentations="horizontal_flip, random_crop(padding=4, mode='reflect')",
    batch_size=32,
    learning_rate=1e-3,
    schedule="cosine(warmup=0.1)",
    steps=300,
    eval_every=100,
    validation_fraction=0.0,
)
