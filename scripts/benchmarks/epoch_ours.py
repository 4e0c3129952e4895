"""`jaxvision launch`, which stops after each epoch until it is asked for the next."""

from __future__ import annotations

import sys

from benchmarks.contestant import speaking, versions


def main() -> int:
    answer = speaking()
    from jaxvision.cli.errors import run_command
    from jaxvision.cli.training import launch
    from jaxvision.engine import logs

    report = logs.Log.report

    def reporting(self, *rows, num_images):
        report(self, *rows, num_images=num_images)
        answer({"images": num_images, "seconds": rows[0]["seconds"], "waiting": rows[0]["waiting"]})
        if not sys.stdin.readline():
            raise SystemExit(0)

    logs.Log.report = reporting
    answer(versions(("jax", "flax")))
    sys.stdin.readline()
    return run_command(launch, sys.argv[1:], "launch")


if __name__ == "__main__":
    sys.exit(main())
