"""The roles of splits: the words that name train, validation and test, and the test split where no data are given."""

from __future__ import annotations

from jaxvision.interfaces import Split
from jaxvision.splits import holdout

NAMES = {  # in tables, in arrays, and of folders
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "holdout", "eval", "evaluation"),
}
ROLES = {name: role for role, names in NAMES.items() for name in names}
DESCRIBED = {"validation": "validation (used for choosing)"}  # in notes
ENDINGS = ("set", "data", "images", "split")  # of folders


def role_of(name: str) -> str:
    """Return the role that a folder's name states, or "".

    >>> role_of("val"), role_of("Training-Set"), role_of("annotations")
    ('validation', 'train', '')
    """
    word = name.lower().replace("-", "_").replace(" ", "_")
    words = {word, *(word.removesuffix(ending).rstrip("_") for ending in ENDINGS)}
    return next((ROLES[word] for word in words if word in ROLES), "")


def with_test(splits: dict[str, Split], fraction: float | None, *, seed: int) -> tuple[dict[str, Split], str]:
    """Return splits with a test split, and how it came about, "" if it was there or if there is none.

    A part of train is held out if a fraction is stated, or if train is the only split: then a fifth. With train and
    validation only, there is no test split.
    """
    if "test" in splits or (fraction is None and "validation" in splits):
        return splits, ""
    fraction = 0.2 if fraction is None else fraction
    train, test = holdout(splits["train"], fraction, seed=seed)
    return {**splits, "train": train, "test": test}, f"test is {fraction:.0%} of train, held out"
