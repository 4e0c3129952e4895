"""Memory reuse: a step does not request freed memory from the system again."""

import os
import platform
import subprocess
import sys

import pytest

from jaxvision.distributed import runtime

PROGRAM = """
import resource, statistics
import jaxvision
import jax, jax.numpy as jnp

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(inputs).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

inputs = jnp.ones((2**20, 16))
step = jax.jit(lambda inputs: jnp.sin(inputs @ jnp.ones((16, 16))) @ jnp.ones(16))
print(statistics.median(page_faults() for _ in range(15)))
"""
PAGES = 2**20 * 16 * 4 // 4096  # of what lies between the two products


def page_faults(**environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment = {**plain, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other ways")
def test_steps_use_freed_memory_again_unless_the_environment_says_otherwise():
    assert page_faults(MALLOC_ARENA_MAX="8") > PAGES / 2
    assert page_faults() < PAGES / 20


@pytest.mark.parametrize(
    ("system", "accepted", "wanted"), [("linux", 1, [-3, -8, -1]), ("linux", 0, [-3]), ("win32", 1, [])]
)
def test_where_the_threshold_is_refused_nothing_else_is_set(system, accepted, wanted, monkeypatch):
    options = []

    class Library:
        def __init__(self, name):
            assert system == "linux"  # elsewhere there may be no such library to open

        def mallopt(self, option, value):
            options.append(option)
            return accepted

    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(runtime.sys, "platform", system)
    monkeypatch.setattr(runtime.ctypes, "CDLL", Library)
    runtime.keep_freed()
    assert options == wanted
