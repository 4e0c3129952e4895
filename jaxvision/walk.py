"""Walk a folder of files: follow links, skip hidden and system files, and count all that is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM = {  # in lowercase: what operating systems and network drives leave behind, beside names with a leading dot
    *("@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"),
    *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
NUM_NAMED = 5  # kinds in one message
NO_REPAIRS: dict[str, str] = {}


@dataclass
class Tally:
    """What walks met: files by suffix, read and left out, the first left-out file of each suffix, and skipped names.

    `repeated` are links to folders that the same walk had read before.
    """

    read: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)

    def leave_out(self, path: str, kind: str) -> None:
        """Count a file that is not read."""
        self.left_out[kind] += 1
        self.first.setdefault(kind, path)

    def described(self, repairs: Mapping[str, str]) -> list[str]:
        """Return what was met as lines of text. `repairs` states for suffixes how to make images of such files."""
        lines = [f"files: {listed(self.read)}"] if self.read else []
        if self.left_out:
            first = self.first[next(kind for kind, _ in self.left_out.most_common())]
            lines.append(f"left out: {listed(self.left_out, repairs)}, the first {first!r}")
        if self.skipped:
            lines.append(f"skipped, hidden or of the system: {listed(self.skipped)}")
        if self.repeated:
            more = f" (and {len(self.repeated) - 1} more)" if len(self.repeated) > 1 else ""
            lines.append(f"read once: {self.repeated[0]!r} leads to a folder that was read before{more}")
        return lines


def listed(counts: Mapping[str, int], repairs: Mapping[str, str] = NO_REPAIRS) -> str:
    """Return counts in words, most frequent first, with the repair of a kind if there is one.

    >>> listed({".txt": 1, ".heic": 4}, {".heic": "convert them to JPEG"})
    '4 .heic (convert them to JPEG), 1 .txt'
    """
    ordered = Counter(counts).most_common()
    shown = [f"{count:,} {name}" + (f" ({repairs[name]})" if name in repairs else "") for name, count in ordered]
    more = f" and {len(shown) - NUM_NAMED:,} more kinds" if len(shown) > NUM_NAMED else ""
    return ", ".join(shown[:NUM_NAMED]) + more


def is_skipped(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left by an operating system.

    >>> is_skipped(".thumbnails"), is_skipped("__MACOSX"), is_skipped("__label__cat")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM


def entries(folder: str | Path, tally: Tally) -> list[os.DirEntry[str]]:
    """Return what a folder holds, by name, without what is skipped.

    Raises FileNotFoundError for a link that leads nowhere.
    """
    with os.scandir(folder) as found:
        listed = sorted(found, key=lambda entry: entry.name)
    kept = []
    for entry in listed:
        if is_skipped(entry.name):
            tally.skipped["._*" if entry.name.startswith("._") else entry.name] += 1
        elif entry.is_symlink() and not os.path.exists(entry.path):
            raise FileNotFoundError(dangling(entry.path))
        else:
            kept.append(entry)
    return kept


def dangling(path: str) -> str:
    """Return the message that a link leads nowhere."""
    return (
        f"{path!r} is a link to {os.readlink(path)!r}, which does not exist or cannot be reached; restore that, or "
        "remove the link"
    )


def folders_in(folder: str | Path, tally: Tally) -> list[Path]:
    """Return the folders in a folder, and links to folders, by name."""
    return [Path(entry.path) for entry in entries(folder, tally) if entry.is_dir()]


def files_below(folder: str | Path, suffixes: Collection[str], tally: Tally) -> Iterator[str]:
    """Yield the files below a folder whose lowercase suffix is among those given, in the order of their paths.

    Linked folders are entered; a folder that is reached again, or that is above the one walked, is not: it would bring
    the images of other classes. Raises FileNotFoundError for a link that leads nowhere.
    """
    whole = Path(folder).resolve()
    known = {identity(each) for each in (whole, *whole.parents)}
    pending = [iter(entries(folder, tally))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif entry.is_dir():
            key = identity(entry.path)
            if key in known:
                tally.repeated.append(entry.path)
            else:
                known.add(key)
                pending.append(iter(entries(entry.path, tally)))
        elif (suffix := os.path.splitext(entry.name)[1].lower()) in suffixes and entry.is_file():
            tally.read[suffix] += 1
            yield entry.path
        else:
            tally.leave_out(entry.path, (suffix or "without a suffix") if entry.is_file() else "not regular files")


def identity(folder: str | Path) -> tuple[int, int]:
    """Return what two paths of one folder have in common."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino
