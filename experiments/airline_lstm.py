"""Forecast airline passengers one month ahead by an LSTM of 31,901 parameters on monthly changes.

jaxvision train --experiment=airline_lstm --dataset="time_series(path='airline-passengers.csv', column='Passengers', \
season=12)"

On the last fifth, 29 months (G. Box, G. Jenkins, Time Series Analysis, 1976, series G): root mean squared error
31.2 ± 4.1 thousand passengers over 3 seeds (31.4, 35.3, 27.1). Baselines: last month 52.5, same month a year before
46.1. 18 to 22 s per run on two CPU cores (x86-64, JAX 0.10.2, float32) under other load. The last checkpoint is
evaluated.
"""

from jaxvision import Config

CONFIG = Config(
    model="lstm",
    dataset="time_series(path='data/series/airline-passengers.csv', column='Passengers', window=12, season=12)",
    task="regression",
    optimizer="adam",
    learning_rate=3e-3,
    batch_size=16,
    validation_fraction=0.0,
    epochs=150,
    eval_every=500,
)
