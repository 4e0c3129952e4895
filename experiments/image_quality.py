"""Predict the mean opinion score of photographs, 0 (bad) to 1 (excellent), trained on 240 of them.

jaxvision train --experiment=image_quality --dataset="table(path='train.csv', test='test.csv', \
image='images/{image}', target='mos', image_size=96)"

On 60 photographs: Spearman's correlation 0.414 ± 0.047 over 3 seeds (0.401, 0.374, 0.466), root mean squared error
0.190 ± 0.005; predicting the mean score has no correlation, and 0.196. 3 to 7 min per run on two CPU cores (x86-64,
JAX 0.10.2, float32) under other load. The last checkpoint is evaluated: there are too few photographs for a
validation split.

Measured with version 0.1.
"""

from jaxvision import Config

CONFIG = Config(
    model="cnn(channels=(32, 64, 128, 128), num_pools=4, padding='SAME', batch_norm=True, dropout=0.3)",
    dataset="table(path='data/image_quality/train.csv', test='data/image_quality/test.csv', image='images/{image}', "
    "target='mos', image_size=96)",
    task="regression",
    augmentations="horizontal_flip",
    batch_size=32,
    schedule="cosine(warmup=0.05)",
    learning_rate=1e-3,
    validation_fraction=0.0,
    epochs=40,
)
