"""The roles of the folders of a dataset: which is train, which validation, which test, and which none of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.image_files import images_in, no_images
from jaxvision.specs import nearest
from jaxvision.split_roles import DESCRIBED, NAMES, role_of
from jaxvision.walk import Tally, folders_in


class Roles(NamedTuple):
    """The folder of each split, "train" first, the folders without a role, and one that only its classes make test."""

    folders: dict[str, Path]
    unused: list[str]
    guessed: str = ""

    def described(self, root: Path) -> str:
        """Return the roles as a line of text. `root` holds the folders."""
        if self.folders["train"] == root:
            return f"roles: {root.name!r} holds the classes itself"
        parts = [f"{DESCRIBED.get(role, role)} is {path.name!r}" for role, path in self.folders.items()]
        guess = f" (the only other folder with classes of train; test={self.guessed!r} states it)"
        unused = f"; not used: {', '.join(map(repr, self.unused))}" if self.unused else ""
        return f"roles: {', '.join(parts)}{guess if self.guessed else ''}{unused}"


def assign_roles(root: Path, *, validation: str | None, test: str | None) -> Roles:
    """Return the role of each folder in `root`; if it holds the classes itself, it is train.

    `validation` and `test` name the folders of these roles, "" for none; None lets the names of the folders decide.
    Raises ValueError if a role is unclear, or its folder holds no classes.
    """
    folders = folders_in(root, Tally())
    train = _train(root, folders)
    asked = {"validation": validation, "test": test}
    if train is None:
        named = next((f"{role}={name!r}" for role, name in asked.items() if name), None)
        if named:
            raise ValueError(f"{named} needs a folder 'train' beside it, and {str(root)!r} has {_names(folders)}")
        return Roles({"train": root}, [])
    found, rest = {"train": train}, [folder for folder in folders if folder != train]
    for role, name in asked.items():
        if name:
            found[role] = _named(root, rest, role, name)
    if validation and found["validation"] == found.get("test"):
        raise ValueError(f"validation={validation!r} and test={test!r} are one folder; a test split chooses nothing")
    for role, name in asked.items():
        fitting = [f for f in rest if name is None and role_of(f.name) == role and f not in found.values()]
        if len(fitting) > 1:
            raise ValueError(
                f"folder {str(root)!r}: {_names(fitting)} are all {role} by their names; choose with "
                f"{role}={fitting[0].name!r}"
            )
        if fitting:
            found[role] = fitting[0]
    rest = [folder for folder in rest if folder not in found.values()]
    guessed = _guess(root, rest, found) if validation is None and test is None else ""
    if guessed:
        found["test"] = root / guessed
    for role in ("validation", "test"):
        if role in found:
            _check_classes(found[role], role)
    unused = [folder.name for folder in rest if folder.name != guessed]
    return Roles({role: found[role] for role in NAMES if role in found}, unused, guessed)


def _train(root: Path, folders: Sequence[Path]) -> Path | None:
    """Return the folder of train; None if `root` holds the classes. Raises ValueError if that is unclear."""
    by_name = [folder for folder in folders if role_of(folder.name)]
    with_classes = [folder for folder in by_name if folders_in(folder, Tally())]
    trains = [folder for folder in with_classes if role_of(folder.name) == "train"]
    if len(trains) > 1:
        raise ValueError(
            f"folder {str(root)!r}: {_names(trains)} are all train by their names; rename or move all but one"
        )
    if trains:
        return trains[0]
    if with_classes:
        raise ValueError(
            f"folder {str(root)!r} has {with_classes[0].name!r} but no training split; name the training folder 'train'"
        )
    if by_name and by_name == folders:  # a class may be called "train", but not all of them by roles
        raise ValueError(
            f"folder {str(folders[-1])!r} has {_num_images(folders[-1])} but no class folders; expected one folder of "
            "images per class, or a table that has the labels: table(path='labels.csv', image=…, target=…)"
        )
    return None


def _named(root: Path, folders: Sequence[Path], role: str, name: str) -> Path:
    """Return the folder beside train that an argument names. Raises ValueError if there is none."""
    for folder in folders:
        if folder.name == name:
            return folder
    names = [folder.name for folder in folders]
    raise ValueError(
        f"{role}={name!r}: folder {str(root)!r} has no such folder beside train{nearest(name, names)}; it has "
        f"{_names(folders) or 'no other'}"
    )


def _guess(root: Path, folders: Sequence[Path], found: dict[str, Path]) -> str:
    """Return the one folder without a role that has classes of train, "" if none has any.

    Raises ValueError if several have, or if there is a test folder already.
    """
    classes = {folder.name for folder in folders_in(found["train"], Tally())}
    alike = [folder for folder in folders if classes & {each.name for each in folders_in(folder, Tally())}]
    if len(alike) > 1 or (alike and "test" in found):
        raise ValueError(
            f"folder {str(root)!r}: besides train there are {', '.join(folder.name for folder in alike)}; expected "
            f"validation and test: rename them, or write test={alike[0].name!r} or validation={alike[0].name!r}"
        )
    return alike[0].name if alike else ""


def _check_classes(folder: Path, role: str) -> None:
    """Raise ValueError if the folder of a split has no class folders."""
    if folders_in(folder, Tally()):
        return
    tally = Tally()
    if next(images_in(folder, tally), None) is None:
        raise ValueError(f"folder {str(folder)!r} has {no_images(tally)}; write {role}='' to do without it")
    raise ValueError(
        f"folder {str(folder)!r} has {_num_images(folder)} but no class folders, so they have no labels: make one "
        f"folder per class, or write {role}='' to do without it and predict them with jaxvision predict"
    )


def _num_images(folder: Path) -> str:
    count = sum(1 for _ in images_in(folder))
    return f"{count:,} image{'s' * (count != 1)}"


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(repr(folder.name) for folder in folders)


def same_but_for_unicode(name: str, names: Sequence[str]) -> str | None:
    """Return another name that differs from this one only in its Unicode normal form.

    >>> same_but_for_unicode("cafe\\u0301", ["tea", "caf\\xe9"]) == "caf\\xe9"
    True
    """
    normal = unicodedata.normalize("NFC", name)
    return next((each for each in names if each != name and unicodedata.normalize("NFC", each) == normal), None)
