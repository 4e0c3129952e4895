"""What a sweep tries: a config and a search over a space of values -> the config of each trial."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from jaxvision import space as spaces
from jaxvision.config import Config
from jaxvision.space import Setting, Space

Order = Literal["grid", "random"]


class Search(NamedTuple):
    """Which settings of a space are tried, all of a grid or `num_trials` at random, and how often each.

    Each is trained with so many seeds, from the config's on, and on each of so many folds, where there are folds.
    """

    space: Space
    order: Order = "grid"
    num_trials: int | None = None
    seeds: int = 1
    folds: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a later sweep in the same workdir must agree with; more seeds or trials may be added."""
        return {"SPACE": spaces.plain(self.space), "search": self.order, "folds": self.folds}


class Trial(NamedTuple):
    """One training run of a sweep: its folder's name, the setting that it tries, and its whole config."""

    name: str
    setting: Setting
    config: Config


def plan(config: Config, search: Search) -> list[Trial]:
    """List the trials of a sweep: for each setting each seed, and for each of these each fold.

    Values for `seed` in the space are the seeds. Raise ValueError or TypeError for what Config does not take.
    """
    space, num_trials, folds = search.space, search.num_trials, search.folds
    spaces.check(space)
    numbers = space.get("seed", range(config.seed, config.seed + search.seeds))
    if isinstance(numbers, spaces.Range) or ("seed" in space and search.seeds != 1) or search.seeds < 1:
        raise ValueError(f"seeds={search.seeds}; wanted 1 or more, or values for seed in SPACE, as (0, 1, 2)")
    if (search.order == "random") != (num_trials is not None):
        raise ValueError(f"num_trials={num_trials}; wanted a number with --search=random, and none with --search=grid")
    chosen = {name: values for name, values in space.items() if name != "seed"}
    settings = spaces.grid(chosen) if num_trials is None else spaces.draw(chosen, num_trials, seed=config.seed)
    trials = []
    for index, setting in enumerate(settings):
        for seed in numbers:
            for fold in range(1, folds + 1) if folds else (None,):
                name = f"{index:04}-seed{seed}" + (f"-fold{fold}" if fold else "")
                place = {"fold": f"{fold}/{folds}"} if fold else {}
                trials.append(Trial(name, setting, config.replace(**setting, seed=seed, **place)))
    return trials
