"""Handwritten digits read row by row by an LSTM: 28 steps of 28 numbers.

jaxvision launch --experiment=mnist_lstm

Test accuracy 0.986 ± 0.001 over 3 seeds (0.987, 0.985, 0.987), where the most frequent digit has 0.114; 68 to 229 s
each on two CPU cores (x86-64, JAX 0.10.2, float32), other work beside them.
"""

from jaxvision import Config

CONFIG = Config(model="lstm", dataset="mnist", schedule="one_cycle", learning_rate=4e-3, clip_norm=1.0, epochs=5)
