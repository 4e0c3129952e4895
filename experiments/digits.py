"""The embedded default: handwritten digits, normalised and shifted at random.

jaxvision launch --experiment=digits

Test accuracy 0.985 ± 0.004 over 3 seeds (0.981, 0.986, 0.989); 32 to 40 s each on two CPU cores (x86-64, JAX 0.10.2,
float32), compilation, validation and test included, other work beside them.
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
