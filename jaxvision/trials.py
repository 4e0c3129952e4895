"""The trials of a sweep: one config per configuration, seed and fold."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from jaxvision import search_space as spaces
from jaxvision.config import Config
from jaxvision.search_space import Setting, Space

Order = Literal["grid", "random"]
MOST_TRIALS = 10_000


class Search(NamedTuple):
    """The configurations to try, all of a grid or `num_trials` random ones, with their numbers of seeds and folds.

    Each configuration is trained with `seeds` seeds, starting at the config's, and on each fold if there are folds.
    """

    space: Space
    order: Order = "grid"
    num_trials: int | None = None
    seeds: int = 1
    folds: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a later sweep in the same workdir must match; more seeds or trials may be added."""
        return {"SEARCH_SPACE": spaces.plain(self.space), "search": self.order, "folds": self.folds}


class Trial(NamedTuple):
    """One training run of a sweep: its folder's name, its configuration, and its full config."""

    name: str
    setting: Setting
    config: Config


def plan(config: Config, search: Search) -> list[Trial]:
    """List the trials of a sweep, by configuration, then seed, then fold.

    Values for `seed` in the space replace the seeds. Raises ValueError or TypeError if the space or a config is
    invalid.
    """
    space, num_trials, folds = search.space, search.num_trials, search.folds
    spaces.check(space)
    seeds = space.get("seed", range(config.seed, config.seed + search.seeds))
    if (
        isinstance(seeds, spaces.Uniform | spaces.LogUniform)
        or ("seed" in space and search.seeds != 1)
        or search.seeds < 1
    ):
        raise ValueError(
            f"seeds={search.seeds}; expected 1 or more, or values for seed in SEARCH_SPACE, e.g. (0, 1, 2)"
        )
    if (search.order == "random") != (num_trials is not None):
        raise ValueError(
            f"num_trials={num_trials}; expected a number with --search=random, and none with --search=grid"
        )
    chosen = {name: values for name, values in space.items() if name != "seed"}
    sizes = [len(values) for values in chosen.values() if isinstance(values, tuple | list)]
    count = (num_trials or math.prod(sizes)) * len(seeds) * (folds or 1)
    if count > MOST_TRIALS:
        raise ValueError(
            f"a sweep of {count:,} trials; expected {MOST_TRIALS:,} or less, with fewer values, seeds or folds"
        )
    settings = spaces.grid(chosen) if num_trials is None else spaces.draw(chosen, num_trials, seed=config.seed)
    trials = []
    for index, setting in enumerate(settings):
        for seed in seeds:
            for fold in range(1, folds + 1) if folds else (None,):
                name = f"{index:04}-seed{seed}" + (f"-fold{fold}" if fold else "")
                fold_field = {"fold": f"{fold}/{folds}"} if fold else {}
                trials.append(Trial(name, setting, config.replace(**setting, seed=seed, **fold_field)))
    return trials
