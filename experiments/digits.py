"""The embedded default: handwritten digits, normalised and shifted at random.

jaxvision launch --experiment=digits
"""

from jaxvision import Config

CONFIG = Config(
    model="cnn(batch_norm=True)",
    dataset="digits",
    augment="crop(padding=4)",
    batch_size=64,
    schedule="one_cycle",
    epochs=20,
)
