"""Daily minimum temperatures, one day ahead, by an LSTM of 31,901 parameters on windows of thirty days.

jaxvision launch --experiment=temperature_lstm --dataset="series(path='daily-min-temperatures.csv', column='Temp', \
window=30, target='level', season=365)"

On the last fifth, two years of Melbourne's: root mean squared error 2.172 ± 0.008 degrees Celsius over 3 seeds (2.179,
2.174, 2.163); repeating the day before has 2.481, the day a year before 3.728. 32 to 47 s each on two CPU cores
(x86-64, JAX 0.10.2, float32), other work beside them.
"""

from jaxvision import Config

CONFIG = Config(
    model="lstm",
    dataset="series(path='data/series/daily-min-temperatures.csv', column='Temp', window=30, target='level', "
    "season=365)",
    task="regression",
    learning_rate=1e-3,
    batch_size=64,
    epochs=20,
)
