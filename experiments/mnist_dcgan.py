"""Generate digits with a convolutional GAN of 186,498 parameters.

jaxvision train --experiment=mnist_dcgan --workdir=runs/mnist_dcgan
jaxvision evaluate --workdir=runs/mnist_dcgan --fid_classifier=runs/mnist_cnn

By the classifier of `mnist_gan`, the rarest digit is 5.4 % of 10,000 samples, and the Fréchet distance between
samples and test images is 100 (one seed), compared with 2.9 % and 153 for the introductory GAN in 60 epochs. 25 min
on two CPU cores (x86-64, JAX 0.10.2, float32) under other load.

Measured with version 0.1.
"""

from jaxvision import Config

CONFIG = Config(
    model="dcgan(width=16)",
    dataset="mnist",
    task="gan",
    optimizer="partition",
    schedule="cosine",
    learning_rate=1e-3,
    ema=0.995,
    validation_fraction=0.0,
    epochs=4,
)
