"""`jaxvision train` that stops after each epoch until the next is requested."""

from __future__ import annotations

import sys

from benchmarks.contestant import speaking, versions


def main() -> int:
    answer = speaking()
    from jaxvision.cli import run
    from jaxvision.engine import logs

    report = logs.Log.report

    def reporting(self, *rows, num_images):
        report(self, *rows, num_images=num_images)
        answer({"images": num_images, "seconds": rows[0]["seconds"], "waiting": rows[0]["data_wait_fraction"]})
        if not sys.stdin.readline():
            raise SystemExit(0)

    logs.Log.report = reporting
    answer(versions(("jax", "flax")))
    sys.stdin.readline()
    return run("train", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
