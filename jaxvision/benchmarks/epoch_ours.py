"""`jaxvision launch`, which stops after each epoch until it is asked for the next."""

from __future__ import annotations

import contextlib
import sys
import time

from jaxvision.benchmarks.contestant import speaking, versions


def main() -> int:
    answer = speaking()
    from jaxvision import cli, logs, pipeline

    waits: list[float] = []
    report, train_batches = logs.Log.report, pipeline.train_batches

    def timed(*words, **options):
        with contextlib.closing(train_batches(*words, **options)) as batches:
            while True:
                begun = time.perf_counter()
                batch = next(batches)
                waits.append(time.perf_counter() - begun)
                yield batch

    def reporting(self, *rows, num_images):
        report(self, *rows, num_images=num_images)
        answer({"images": num_images, "seconds": rows[0]["seconds"], "waited": sum(waits)})
        if not sys.stdin.readline():
            raise SystemExit(0)
        waits.clear()

    logs.Log.report, pipeline.train_batches = reporting, timed
    answer(versions(("jax", "flax")))
    sys.stdin.readline()
    return cli.run("launch", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
