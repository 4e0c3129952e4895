"""The package as users see it: fast to import, extended by other packages, with a correct README."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

PLUGIN = '''
import flax.linen as nn
import jaxvision as jv


class Tiny(nn.Module):
    output_size: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.output_size)(nn.relu(nn.Conv(8, (3, 3))(x)).mean(axis=(1, 2)))


@jv.models.register("tiny")
def tiny(*, output_size: int) -> jv.Model:
    """One convolution and its average."""
    return jv.from_linen(Tiny(output_size))
'''

TINY = ["--dataset=synthetic(num_examples=60, num_classes=2, image_size=8)", "--steps=2", "--batch_size=20"]


def command(*arguments, cwd, **environment):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | environment
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_a_package_of_a_third_party_is_found_by_its_entry_point(tmp_path):
    """Installs one with pip, lists its model and trains it by name, also in the verbs that follow."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "tiny_models.py").write_text(PLUGIN)
    (source / "pyproject.toml").write_text(
        textwrap.dedent("""\
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "tiny-models"
        version = "1.0"
        [project.entry-points."jaxvision.plugins"]
        tiny = "tiny_models"
        [tool.hatch.build.targets.wheel]
        include = ["tiny_models.py"]
        """)
    )
    pip = command(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, source, cwd=tmp_path)
    if pip.returncode and re.search("hatchling|connection|resolve", pip.stderr, re.IGNORECASE):
        pytest.skip("pip cannot build a package here: no network for its build tools")
    assert pip.returncode == 0, pip.stderr

    def jaxvision(*arguments):
        return command(sys.executable, "-m", "jaxvision", *arguments, cwd=tmp_path, PYTHONPATH=str(site))

    listed = jaxvision("list", "models", "ti*")
    assert listed.stdout == "  tiny()\n      One convolution and its average.\n", listed.stderr
    trained = jaxvision("launch", "--model=tiny", *TINY, "--workdir=run")
    assert trained.returncode == 0 and "test accuracy" in trained.stdout, trained.stderr
    assert jaxvision("evaluate", "--workdir=run").returncode == 0


def test_a_file_plugs_in_and_the_workdir_remembers_it(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)

    def jaxvision(*arguments):
        return command(sys.executable, "-m", "jaxvision", *arguments, cwd=tmp_path)

    trained = jaxvision("launch", "--model=tiny", "--plugins=mine.py", *TINY, "--workdir=run")
    assert trained.returncode == 0, trained.stderr
    assert jaxvision("evaluate", "--workdir=run").returncode == 0
    (tmp_path / "mine.py").rename(tmp_path / "renamed.py")
    lost = jaxvision("evaluate", "--workdir=run")
    assert lost.returncode == 2 and "mine.py" in lost.stderr and "unknown model 'tiny'" in lost.stderr
    assert jaxvision("evaluate", "--workdir=run", "--plugins=renamed.py").returncode == 0


def test_the_checks_pass_for_a_module_that_names_no_maps(tmp_path):
    from jaxvision import testing
    from jaxvision.plugins import load_plugins

    (tmp_path / "checked.py").write_text(PLUGIN.replace('"tiny"', '"tiny_checked"'))
    load_plugins([str(tmp_path / "checked.py")])
    testing.check_model("tiny_checked")


def test_import_is_light():
    code = """
import sys, time
import jax
began = time.perf_counter()
import jaxvision
took = time.perf_counter() - began
heavy = {"flax", "orbax", "sklearn", "matplotlib", "tensorflow_datasets", "tensorflow", "PIL", "torch"}
heavy &= set(sys.modules)
print(took, heavy)
assert took < 1 and not heavy
"""
    done = command(sys.executable, "-c", code, cwd=".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_listing_models_is_light_and_builds_none():
    code = """
import sys, time
import jaxvision
from jaxvision import registry
from jaxvision.cli import run
registry.Registry.build = None
began = time.perf_counter()
status = run("list", ["models", "resnet*"])
took = time.perf_counter() - began
print(took)
assert status in (0, None) and took < 1
"""
    done = command(sys.executable, "-c", code, cwd=".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resnet50" in done.stdout and "25,557,032" in done.stdout and "(224, 224, 3)" in done.stdout


def test_public_names_exist_and_verbs_stay_functions():
    import jaxvision as jv

    for name in jv.__all__:
        assert getattr(jv, name) is not None
    import jaxvision.evaluate
    import jaxvision.models.cnn
    import jaxvision.train

    assert callable(jv.train) and callable(jv.evaluate) and callable(jv.models.register)
    assert "cnn" in jv.list_models("c*")
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        jv.trane  # noqa: B018
