"""Registries and specs: parsing, building, messages and plugins."""

import textwrap
import warnings

import pytest

from jaxvision import plugins, registry
from jaxvision.registry import Registry
from jaxvision.specs import parse, parse_list


def test_specs_are_read():
    assert parse("cnn") == ("cnn", {})
    assert parse("cnn(channels=[64, 128], dropout=-0.5, name='a,b', flag=True, none=None)") == (
        "cnn",
        {"channels": (64, 128), "dropout": -0.5, "name": "a,b", "flag": True, "none": None},
    )
    assert parse("ensemble(of=cnn(dropout=0.1), n=2)")[1] == {"of": "cnn(dropout=0.1)", "n": 2}
    assert [s.name for s in parse_list("flip, crop(padding=4, mode='edge'),")] == ["flip", "crop"]
    assert parse_list("  ") == []


@pytest.mark.parametrize(
    "text",
    [
        "cnn(__import__('os').system('true'))",
        "cnn(channels=__import__('os').system('true'))",
        "cnn(channels=(1, open('x')))",
        "cnn(a=[x for x in (1,)])",
        "cnn(a=1+1 if True else 2)",
        "os.system(a=1)",
        "cnn(64)",
        "cnn(**{'a': 1})",
        "cnn(a=1, a=2)",
        "cnn(",
        "cnn)",
        "",
        "cnn, mlp",
        "lambda: 0",
        "cnn(a=f'{1}')",
        "cnn(a={[1]: 2})",
    ],
)
def test_code_and_nonsense_are_refused(text):
    with pytest.raises(ValueError, match="expected name or name"):
        parse(text)


def test_errors_teach():
    with pytest.raises(ValueError, match=r"unknown model 'cn'; did you mean 'cnn'.*list models"):
        registry.models.build("cn", output_size=2)
    with pytest.raises(ValueError, match=r"no argument 'chanels'; did you mean 'channels'.*expected cnn\(channels="):
        registry.models.build("cnn(chanels=(1,))", output_size=2)
    with pytest.raises(TypeError, match=r"dropout='high' is not of type float"):
        registry.models.build("cnn(dropout='high')", output_size=2)
    with pytest.raises(TypeError, match=r"padding='same' is not one of 'VALID', 'SAME'; did you mean 'SAME'\?"):
        registry.models.build("cnn(padding=same)", output_size=2)
    with pytest.raises(ValueError, match="'output_size' is set by the run"):
        registry.models.build("cnn(output_size=3)", output_size=2)
    with pytest.raises(ValueError, match=r"dataset 'folder' needs path="):
        registry.datasets.build("folder")


def test_a_taken_name_names_both_places():
    fresh = Registry("thing", "jaxvision.schedules")

    @fresh.register("one")
    def first(): ...

    with pytest.raises(ValueError, match=r"(?s)test_registry.py:\d+.*test_registry.py:\d+.*rename one"):

        @fresh.register("one")
        def second(): ...

    assert fresh.entry("one").factory is first


PLUGIN = """
import jaxvision as jv

@jv.models.register("{name}")
def make(*, output_size: int, size: int = 3) -> jv.Model:
    '''A test's model.'''
    return jv.models.mlp
"""


def test_plugins_load_from_a_file_and_a_broken_one_warns(tmp_path):
    good, broken, taken = (tmp_path / f"{n}.py" for n in ("good_plugin", "broken_plugin", "taken_plugin"))
    good.write_text(PLUGIN.format(name="from_a_file"))
    broken.write_text("import does_not_exist_at_all")
    (tmp_path / "leaving.py").write_text("import sys; sys.exit('needs a GPU')")
    taken.write_text(PLUGIN.format(name="cnn"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plugins.load_plugins(
            required=False,
            plugins=[
                str(broken),
                str(taken),
                str(good),
                str(tmp_path / "missing.py"),
                "no_such_module",
                str(tmp_path / "leaving.py"),
            ],
        )
    told = [str(w.message) for w in caught]
    assert len(told) == 5 and "needs a GPU" in told[4]
    assert "broken_plugin.py" in told[0] and "does_not_exist_at_all" in told[0]
    assert "taken_plugin.py:4" in told[1] and "cnn.py" in told[1] and "rename one" in told[1]
    assert "missing.py" in told[2] and "no_such_module" in told[3]
    assert registry.models.signature("from_a_file") == "from_a_file(size=3)"
    assert "taken" not in registry.models.entry("cnn").source


def test_wildcards():
    assert registry.models.names("con*cnn") == ["concat_cnn"]
    assert registry.models.names("nothing*") == []


def test_parameters_of_registered_facts_and_signatures():
    assert registry.optimizers.signature("adam") == "adam(b1=0.9, b2=0.999, eps=1e-08)"
    assert registry.datasets.signature("folder").startswith("folder(path, image_size=None, channels=3")
    assert registry.optimizers.default("adam", "learning_rate") == 2e-3


def test_entry_points_of_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "my_entry_package-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-entry-package\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        textwrap.dedent("""\
        [jaxvision.plugins]
        bad = my_broken_entry_module
        good = my_entry_module
        """)
    )
    (tmp_path / "my_entry_module.py").write_text(PLUGIN.format(name="from_an_entry_point"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="bad .my_broken_entry_module. could not be imported"):
        plugins.load_entry_points()
    assert "from_an_entry_point" in registry.models.names()
