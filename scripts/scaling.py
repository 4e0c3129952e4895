"""Predict the cost of a training step as devices grow, with the formulas of docs/scaling.md."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from script_flags import define_fields, parse, require_no_words

from jaxvision.cli.errors import run_command
from jaxvision.cli.flags import given

DEVICE_COUNTS = tuple(2**i for i in range(13))
PAYS = 0.5  # the least gain in throughput for which doubling the devices pays
BACKWARD_SHARE = 2 / 3  # assumption: the backward pass takes twice as long as the forward pass


def _field(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Setup:
    """A model, the machines that it trains on, and how it is distributed. docs/scaling.md states the sources."""

    # MLPerf Training v3.0, one DGX H100: 56,078 images/s in steps of 8 x 400. Its eighth stands for one device.
    step_seconds: float = _field(0.05706, "measured seconds of a step on one device, with its fixed part")
    batch_size: int = _field(
        400, "images per device and step at which step_seconds was measured; the batch of weak scaling"
    )
    # The same, and eight DGX H100 with steps of 64 x 50 (294,860 images/s): the line through both, at batch 0.
    fixed_milliseconds: float = _field(4.25, "the part of step_seconds that does not shrink with the batch")
    global_batch: int = _field(3200, "images per step over all devices, for strong scaling")
    parameters: int = _field(25_557_032, "numbers in the model; ResNet-50 by default")
    bytes_per_parameter: float = _field(4.0, "bytes of one number of a gradient or gathered parameter")
    devices_per_host: int = _field(8, "devices that share a host's fast links and its input")
    # NVIDIA, Hopper architecture: 900 GB/s both ways together, so 450 each way; a data sheet's, never measured here.
    link_gigabytes: float = _field(450.0, "GB/s each way of a device to others of its host")
    # NVIDIA, DGX H100: eight ConnectX-7 of 400 Gb/s, 8 x 50 GB/s each way; a data sheet's too.
    network_gigabytes: float = _field(400.0, "GB/s each way of a host to other hosts")
    # NCCL, src/graph/tuning.cc: 4.0 for a ring over the network with protocol LL128. Assumed within a host as well.
    latency_microseconds: float = _field(4.0, "latency of one message")
    # Assumption: we know of no published figure.
    overlap: float = _field(0.5, "fraction of the backward pass that can hide gradient communication, 0 to 1")
    # Counted in the compiled step: two for each of 53 batch norms, less four beside others. 0 for norms of one device.
    small_reductions: int = _field(98, "small all-reduces per step that the next layer waits for")
    # The fastest epoch in the log of one DGX H100: a lower bound of its input.
    host_images: float = _field(56_211.0, "images/s that a host can read and decode")
    mode: Literal["data", "fsdp", "hybrid"] = _field("data", "data, fsdp, or hybrid: fsdp in a host, data between")
    scaling: Literal["weak", "strong"] = _field("weak", "weak: batch_size on each device; strong: global_batch in all")

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = getattr(self, name)
            least = 0 if name in ("fixed_milliseconds", "latency_microseconds", "overlap", "small_reductions") else None
            if isinstance(value, str) or (math.isfinite(value) and (value > 0 or value == least)):
                continue
            raise ValueError(f"{name}={value} must be {'at least' if least == 0 else 'above'} 0 and finite")
        if self.overlap > 1:
            raise ValueError(f"overlap={self.overlap} must be at most 1, the whole backward pass")
        if self.fixed_milliseconds >= 1000 * self.step_seconds:
            raise ValueError(f"fixed_milliseconds={self.fixed_milliseconds} must be less than step_seconds")
        if self.devices_per_host not in DEVICE_COUNTS:
            raise ValueError(f"devices_per_host={self.devices_per_host} must be a power of two, as the counts are")


FIELDS = {f.name: f for f in dataclasses.fields(Setup)}
HINTS = typing.get_type_hints(Setup)


class Row(NamedTuple):
    """The prediction for a number of devices: the milliseconds of a step by part, and the throughput."""

    devices: int
    milliseconds: dict[str, float]
    images_per_second: float

    def bound(self, *, beside: str = "") -> str:
        """Return what bounds the step: input if the step waits for it, otherwise the longest part."""
        if self.milliseconds["input"] > 0:
            return "input"
        return max((name for name in self.milliseconds if name != beside), key=self.milliseconds.__getitem__)


def ring_seconds(num_bytes: float, n: int, bandwidth: float, latency: float, *, passes: int = 2) -> float:
    """Return the seconds of passes around a ring of n: 1 gathers or reduce-scatters, 2 all-reduce, 3 are a step of
    FSDP.
    """
    return passes * (n - 1) * (num_bytes / n / bandwidth + latency)


def all_reduce_seconds(num_bytes: float, n: int, bandwidth: float, latency: float) -> float:
    """Return the seconds of an all-reduce over n devices, by a ring or by a tree, whichever is faster."""
    tree = 2 * (num_bytes / bandwidth + math.ceil(math.log2(n)) * latency)
    return min(ring_seconds(num_bytes, n, bandwidth, latency), tree)


def communication_seconds(setup: Setup, n: int) -> float:
    """Return the seconds of communicating gradients, and sharded parameters, in a step on n devices, hidden or not."""
    within, hosts = min(n, setup.devices_per_host), math.ceil(n / setup.devices_per_host)
    num_bytes, latency = setup.parameters * setup.bytes_per_parameter, setup.latency_microseconds / 1e6
    link, network = setup.link_gigabytes * 1e9, setup.network_gigabytes * 1e9
    if setup.mode == "fsdp":  # one ring through all; each host's network carries it once
        return ring_seconds(num_bytes, n, link if hosts == 1 else min(link, network), latency, passes=3)
    between = all_reduce_seconds(num_bytes, hosts, network, latency)  # each device its part, in parallel
    if setup.mode == "hybrid":
        return ring_seconds(num_bytes, within, link, latency, passes=3) + between
    return all_reduce_seconds(num_bytes, within, link, latency) + between


def predict(setup: Setup, n: int) -> Row:
    """Predict one step on n devices."""
    batch = setup.batch_size if setup.scaling == "weak" else math.ceil(setup.global_batch / n)
    fixed = setup.fixed_milliseconds / 1e3
    compute = (setup.step_seconds - fixed) * batch / setup.batch_size
    exposed = max(0.0, communication_seconds(setup, n) - setup.overlap * BACKWARD_SHARE * compute)
    small = setup.small_reductions * all_reduce_seconds(0, n, math.inf, setup.latency_microseconds / 1e6)
    busy = compute + fixed + exposed + small
    read = batch * min(n, setup.devices_per_host) / setup.host_images
    parts = {"compute": compute, "fixed": fixed, "exposed": exposed, "small": small, "input": max(0.0, read - busy)}
    images = batch * n if setup.scaling == "weak" else setup.global_batch
    return Row(n, {name: 1e3 * value for name, value in parts.items()}, images / max(busy, read))


def table(setup: Setup) -> list[Row]:
    """Predict steps on 1, 2, 4, … 4,096 devices, as long as each has an image."""
    counts = [n for n in DEVICE_COUNTS if setup.scaling == "weak" or n <= setup.global_batch]
    return [predict(setup, n) for n in counts]


def verdict(rows: list[Row]) -> str:
    """Return the number of devices from which doubling does not pay, and the part that bounds it."""
    gains = [after.images_per_second / before.images_per_second - 1 for before, after in itertools.pairwise(rows)]
    if not gains:
        return "One image cannot be spread over devices."
    stop = next((i for i, gain in enumerate(gains) if gain < PAYS), None)
    last = rows[-1 if stop is None else stop + 1]
    name, step = last.bound(beside="compute"), sum(last.milliseconds.values())
    told = f"on {last.devices:,}, {name!r} takes {last.milliseconds[name]:.2f} of {step:.2f} ms"
    if stop is None:
        return (
            f"It pays up to {last.devices:,} devices: the last doubling adds {gains[-1]:.0%}. Beside compute, {told}."
        )
    return f"It stops paying at {rows[stop].devices:,} devices: doubling them adds {gains[stop]:.0%}; {told}."


def report(setup: Setup) -> str:
    """Return the table of a setup and the verdict."""
    rows = table(setup)
    head = ["devices", *(f"{name}_ms" for name in rows[0].milliseconds), "step_ms", "images/s", "efficiency", "bound"]
    lines = [head]
    for row in rows:
        efficiency = row.images_per_second / row.devices / rows[0].images_per_second
        times = [f"{value:.2f}" for value in (*row.milliseconds.values(), sum(row.milliseconds.values()))]
        rate = f"{row.images_per_second:,.0f}"
        lines.append([f"{row.devices:,}", *times, rate, f"{efficiency:.1%}", row.bound()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*shown, "", verdict(rows)])


def main(argv: Sequence[str]) -> None:
    """Predict throughput as devices grow: python scripts/scaling.py [--mode=fsdp] [--scaling=strong]"""

    def define(values):
        define_fields(values, FIELDS, HINTS)

    values, rest = parse("scripts/scaling.py", main.__doc__ or "", define, argv)
    require_no_words("scripts/scaling.py", rest)
    print(report(Setup(**given(values, FIELDS))))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/scaling.py"))
