"""Images from a folder to the device with our pipeline, with random crops and flips; or only decoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.works import SHARES, SIDE
from jaxvision import registry
from jaxvision.engine import pipeline
from jaxvision.engine.precision import as_float
from jaxvision.machine import num_cores

LIBRARIES = ("jax", "pillow")
SKIPPED = 2 * pipeline.PREFETCH  # prefetched batches, which are not measured


class Contestant:
    """Training batches, cropped, flipped and normalized on the device; or only its `decode`, in a pool of threads."""

    def __init__(self, folder: str, *, batch_size: int, is_decoding: bool) -> None:
        dataset = registry.datasets.build(f"folder(path={folder!r}, image_size={SIDE}, random_crop={SHARES})")
        shape, horizontal_flip = dataset.preprocessing, registry.augmentations.build("horizontal_flip")
        mean, std = jnp.asarray(shape.mean), jnp.asarray(shape.std)

        def prepared(key, batch):
            return (horizontal_flip(key, {**batch, "inputs": as_float(batch["inputs"])})["inputs"] - mean) / std

        self._split, self._batch_size, self._is_decoding = dataset.train, batch_size, is_decoding
        self._batches = pipeline.train_batches(dataset.train, batch_size, seed=0)
        self._prepared, self._key = jax.jit(prepared), jax.random.key(0)
        self._pool, self._rng = ThreadPoolExecutor(num_cores()), np.random.default_rng(0)

    def skip(self) -> None:
        """Discard what was prefetched."""
        for _ in range(0 if self._is_decoding else SKIPPED):
            jax.block_until_ready(self._prepared(self._key, next(self._batches)))

    def read(self, num_steps: int) -> None:
        for _ in range(num_steps):
            if self._is_decoding:
                self._decode()
            else:
                jax.block_until_ready(self._prepared(self._key, next(self._batches)))

    def _decode(self) -> None:
        decode = self._split.decode
        assert decode is not None
        indices = self._rng.integers(0, len(self._split), self._batch_size).tolist()
        np.stack(list(self._pool.map(lambda index: decode(index, np.random.default_rng((0, index))), indices)))
