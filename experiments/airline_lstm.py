"""Airline passengers, one month ahead, by an LSTM of 31,901 parameters on the changes from month to month.

jaxvision launch --experiment=airline_lstm --dataset="series(path='airline-passengers.csv', column='Passengers', \
season=12)"

On the last fifth, 29 months (G. Box, G. Jenkins, Time Series Analysis, 1976, series G): root mean squared error
31.2 ± 4.1 thousand passengers over 3 seeds (31.4, 35.3, 27.1); repeating the last month has 52.5, the month a year
before 46.1. 18 to 22 s each on two CPU cores (x86-64, JAX 0.10.2, float32), other work beside them. The last
checkpoint is judged.
"""

from jaxvision import Config

CONFIG = Config(
    model="lstm",
    dataset="series(path='data/series/airline-passengers.csv', column='Passengers', window=12, season=12)",
    task="regression",
    optimizer="adam",
    learning_rate=3e-3,
    batch_size=16,
    validation_fraction=0.0,
    epochs=150,
    eval_every=500,
)
