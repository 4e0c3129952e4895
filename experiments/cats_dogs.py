"""The binary classifier, 3,937,409 parameters, on photographs of cats and dogs in class folders.

jaxvision launch --experiment=cats_dogs --dataset="folder(path='PHOTOS', image_size=64)"
"""

from jaxvision import Config

CONFIG = Config(
    model="cnn(channels=(32,), dense=128)",
    dataset="folder(path='data/cats_dogs', image_size=64)",
    task="binary",
    augment="flip, crop(padding=4, mode='reflect')",
    batch_size=32,
    schedule="cosine(warmup=0.05)",
    learning_rate=3e-4,
    validation_fraction=0.0,
    epochs=20,
)
