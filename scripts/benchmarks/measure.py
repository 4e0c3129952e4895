"""All measurements, section by section, as rows and notes."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import epochs, races, starts
from benchmarks.entrant import ENVIRONMENT, absent
from benchmarks.table import Measured, Row, line
from benchmarks.works import SIDE, WORKS, Work

SECTIONS = ("train", "answer", "start", "loop", "epoch")
NUM_COLD = 3  # most runs with empty caches
LOOP_ROUNDS, LOOP_SECONDS = 8, 0.4  # many short ones, to see differences of a hundredth
TF32_TOLERANCE = 3e-2  # of losses with TF32, as on GPUs, which keeps ten bits


class Plan(NamedTuple):
    """How much is measured.

    `epoch_peers` are the variants of PyTorch that train epochs of CIFAR-10, `per_class` the images per class in such an
    epoch; None for all.
    """

    networks: tuple[str, ...]
    precisions: tuple[str, ...]
    batch_sizes: dict[str, int]
    num_rounds: int
    seconds: float
    num_starts: int
    num_steps: int
    epoch_peers: tuple[str, ...]
    per_class: int | None


def plan(*, quick: bool, platform: str) -> Plan:
    """Return the whole plan, or one that takes minutes: two networks, the larger in small batches, float32."""
    sizes = {name: work.batch_size for name, work in WORKS.items()}
    if platform == "gpu":
        sizes["resnet50"] = 256
    peers = ("channels_last", "compile")
    if quick:
        return Plan(("cnn", "resnet18"), ("f32",), {**sizes, "resnet18": 8}, 3, 0.7, 2, 60, peers[:1], 500)
    return Plan(tuple(WORKS), ("f32", "bf16"), sizes, 7, 2.0, 5, 200, peers, None)


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


def compared(work: str, unit: str, found: dict[str, list[float]], *, more_is_better: bool) -> Iterator[Row]:
    """Return a row for each other contestant against ours, and one for the fastest variant of PyTorch.

    The ratio is the median over the ratios of rounds, in which both worked one after the other.
    """
    others = {name: values for name, values in found.items() if name != "ours" and values}
    several = [name for name in others if name.startswith("PyTorch")]
    if len(several) > 1:
        best = (max if more_is_better else min)(several, key=lambda name: statistics.median(others[name]))
        others["best PyTorch"] = others[best]
    mine = found["ours"]
    for peer, values in others.items() if mine else ():
        ratios = [one / other if more_is_better else other / one for one, other in zip(mine, values, strict=False)]
        medians = [statistics.median(each) for each in (mine, values, ratios)]
        yield Row(work, medians[0], peer, medians[1], medians[2], unit, _spread(mine), _spread(values))


class _Session:
    """The results so far; prints what is being measured, and each row."""

    def __init__(self, chosen: Plan, folder: Path, platform: str) -> None:
        self.plan, self.folder, self.platform, self.found = chosen, folder, platform, Measured([], [], {})

    def say(self, what: str) -> None:
        print(f"jaxvision: measuring {what} …", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error that ends a part, keep its rows, and continue with the next part."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.keep((), [str(error)])

    def weights(self, work: Work) -> Path:
        """Write the initial weights of all networks of a work."""
        from benchmarks import ours

        file = self.folder / "weights.npz"
        ours.write_weights(work, file)
        return file

    def images(self) -> Path:
        """Write random images to train on."""
        file = self.folder / "images.npz"
        starts.write_images(file)
        return file

    def keep(self, rows: Iterable[Row], notes: Iterable[str] = (), versions: dict[str, str] | None = None) -> None:
        for row in rows:
            self.found.rows.append(row)
            print(line(row), flush=True)
        self.found.notes.extend(note for note in notes if note not in self.found.notes)
        self.found.versions.update(versions or {})


def measure(
    *,
    quick: bool,
    sections: Sequence[str] = SECTIONS,
    data_dir: str | None = None,
    images: str | None = None,
) -> Measured:
    """Measure the sections and print each row. `images` is a folder of photographs to read.

    Raises ValueError if nothing could be compared, FileNotFoundError if there is no such folder.
    """
    if images is not None and "epoch" in sections:
        epochs.require_folder(images)
    with tempfile.TemporaryDirectory() as folder:
        platform = _platform()
        session = _Session(plan(quick=quick, platform=platform), Path(folder), platform)
        kinds = [kind for kind in races.KINDS if kind in sections]
        if kinds:
            _races(session, kinds)
        with session.noting():
            if "start" in sections:
                _starts(session)
        with session.noting():
            if "loop" in sections:
                _loop(session)
        with session.noting():
            if "epoch" in sections:
                _epochs(session, data_dir, images)
    if not session.found.rows:
        raise ValueError(f"nothing could be compared: {'; '.join(session.found.notes)}")
    return session.found


def _platform() -> str:
    os.environ.update(ENVIRONMENT)  # this process uses the device too
    import jax

    return jax.default_backend()


def _races(session: _Session, kinds: Sequence[str]) -> None:
    names = list(races.CONTESTANTS)
    out = {name: absent(name) for name in names if absent(name)}
    session.keep((), (f"{name} is out: {why}" for name, why in out.items()))
    names = [name for name in names if name not in out]
    for network in session.plan.networks if len(names) > 1 else ():
        work = WORKS[network]._replace(batch_size=session.plan.batch_sizes[network])
        for precision in session.plan.precisions:
            what = f"{network}, batch {work.batch_size}, {precision}"
            session.say(f"{' and '.join(kinds)}: {what}")
            with session.noting():
                _keep_race(session, what, kinds, _raced(session, work, names, kinds, precision))


def _raced(session: _Session, work: Work, names: Sequence[str], kinds: Sequence[str], precision: str) -> races.Raced:
    return races.race(
        work,
        names,
        kinds=kinds,
        weights=session.weights(work),
        precision=precision,
        num_rounds=session.plan.num_rounds,
        seconds=session.plan.seconds,
        tolerance=TF32_TOLERANCE if session.platform == "gpu" else None,
    )


def _keep_race(session: _Session, what: str, kinds: Sequence[str], raced: races.Raced) -> None:
    for do in kinds:
        session.keep(compared(f"{do} {what}", "images/s", raced.rates[do], more_is_better=True))
    if "train" in kinds:  # inference uses less
        memory = {name: [value / 2**20] for name, value in raced.memory.items() if raced.rates["train"][name]}
        rows = compared(f"train {what}: peak memory", "MiB", {"ours": [], **memory}, more_is_better=False)
        session.keep(rows)
    session.keep((), (f"{name} is out of {what}: {why}" for name, why in raced.failed.items()), raced.versions)


def _starts(session: _Session) -> None:
    steps, missing = session.plan.num_steps, absent("PyTorch")
    if missing:
        session.keep((), [f"PyTorch is out of start: {missing}"])
        return
    session.say(f"launch, to the end of {steps} steps")
    images = session.images()
    starts.ours(images, session.folder / "warm", num_steps=steps)  # to read the files of libraries once
    starts.torch(images, num_steps=steps)
    cold, warm, theirs = [], [], []
    for number in range(session.plan.num_starts):
        session.say(f"launch, round {number + 1} of {session.plan.num_starts}")
        if number < NUM_COLD:
            cold.append(starts.ours(images, session.folder / f"cold{number}", num_steps=steps))
        theirs.append(starts.torch(images, num_steps=steps))
        warm.append(starts.ours(images, session.folder / "warm", num_steps=steps))
    for field, what in (("first", "first step"), ("last", f"end of {steps} steps")):
        for name, own in (("cold", cold), ("warm", warm)):
            times = {"ours": [getattr(s, field) for s in own]}
            times["PyTorch"] = [getattr(s, field) for s in theirs[: len(own)]]
            session.keep(compared(f"command to {what}, {name} caches", "s", times, more_is_better=False))


def _loop(session: _Session) -> None:
    session.say("the training loop compared with the bare step")
    rates, notes = starts.loop(
        session.images(),
        session.weights(WORKS["cnn"]),
        num_rounds=LOOP_ROUNDS * session.plan.num_rounds,
        seconds=LOOP_SECONDS,
    )
    session.keep(compared("loop: train cnn, batch 128, f32", "images/s", rates, more_is_better=True), notes)


def _epochs(session: _Session, data_dir: str | None, images: str | None) -> None:
    chosen, size = session.plan, WORKS["cnn"].batch_size
    session.say("an epoch of CIFAR-10 from disk")
    found = epochs.cifar(
        session.folder,
        data_dir,
        variants=chosen.epoch_peers,
        per_class=chosen.per_class,
        batch_size=size,
        num_rounds=chosen.num_starts,
    )
    rows = compared(
        f"epoch of CIFAR-10: cnn, batch {size}", "images/s", {"ours": [], **found.rates}, more_is_better=True
    )
    session.keep(rows, found.notes, found.versions)
    if images is None:
        session.keep((), ["reading images is left out: --images=FOLDER names a folder with train/<class>/ of them"])
        return
    session.say(f"reading the images of {images}")
    found = epochs.images(images, num_rounds=chosen.num_rounds, seconds=chosen.seconds)
    what = f"read images: crop to {SIDE}, flip"
    session.keep(
        compared(what, "images/s", {"ours": [], **found.rates}, more_is_better=True), found.notes, found.versions
    )
