"""Forecast daily minimum temperatures one day ahead by an LSTM of 31,901 parameters on windows of 30 days.

jaxvision train --experiment=temperature_lstm \
    --dataset="time_series(path='daily-min-temperatures.csv', column='Temp', window=30, target='level', season=365)"

On the last fifth, two years in Melbourne: root mean squared error 2.172 ± 0.008 degrees Celsius over 3 seeds (2.179,
2.174, 2.163). Baselines: the day before 2.481, the same day a year before 3.728. 32 to 47 s per run on two CPU cores
(x86-64, JAX 0.10.2, float32) under other load.
"""

from jaxvision import Config

CONFIG = Config(
    model="lstm",
    dataset="time_series(path='data/series/daily-min-temperatures.csv', column='Temp', window=30, target='level', "
    "season=365)",
    task="regression",
    learning_rate=1e-3,
    batch_size=64,
    epochs=20,
)
