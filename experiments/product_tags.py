"""Tags of product photographs: the kind of article, gender, season and usage at once, 31 in all.

jaxvision launch --experiment=product_tags --dataset="table(path='styles.csv', image='images/{id}.jpg', \
target=('articleType', 'gender', 'season', 'usage'), min_count=20, image_size=64)"

On 500 of 2,500 photographs: mean average precision 0.803 ± 0.011 over 3 seeds (0.792, 0.814, 0.804); the tags'
frequencies have 0.129. 4 to 5 min each on two CPU cores (x86-64, JAX 0.10.2, float32), other work beside them.
"""

from jaxvision import Config

CONFIG = Config(
    model="cnn(channels=(32, 64, 128, 128), num_pools=4, padding='SAME', batch_norm=True, dropout=0.3)",
    dataset="table(path='data/fashion_products/styles.csv', image='images/{id}.jpg', "
    "target=('articleType', 'gender', 'season', 'usage'), min_count=20, image_size=64)",
    task="multilabel",
    augment="flip, translate(share=0.06)",
    schedule="one_cycle",
    batch_size=64,
    epochs=20,
)
