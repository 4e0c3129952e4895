"""Every file of docs/plugins.md is listed, runs with the documented command, and passes the documented test."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from jaxvision import plugins, registry, testing
from jaxvision.cli import command, main, run
from jaxvision.plugins import import_plugin, load_plugins

DOCS = Path(__file__).parent.parent / "docs" / "plugins.md"
TEXT = DOCS.read_text()
FILES = dict(re.findall(r"^`(\w+\.py)`\n\n```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
DATASET = "synthetic(num_examples=60, num_classes=3, image_size=8, channels=1)"
TINY = ["--steps=2", "--batch_size=20", "--mesh=data=1", "--workdir=run"]
LISTED = {  # file: the kind, what `jaxvision list` prints, and what the run prints or stores
    "my_linen_model": ("models", "small_conv(channels=(16, 32))", "small_conv(channels=(8, 16)), 1,3"),
    "my_nnx_model": ("models", "small_conv_nnx(width=32, dropout=0.2)", "small_conv_nnx(width=64), "),
    "my_pure_model": ("models", "two_layers(hidden=64)", "two_layers(hidden=32), 2,179 parameters"),
    "my_dataset": ("datasets", "pixel_csv(path, image_size=28, test_fraction=0.2)", "pixel_csv(path='digits.csv', im"),
    "my_task": ("tasks", "graded(distance_weight=0.1)", "test quadratic kappa "),
    "my_loss": ("losses", "poly1(epsilon=1.0)", "test accuracy "),
    "my_gradient": ("gradients", "clipped(max_norm=1.0, noise_multiplier=0.0)", "gradient_norm "),
    "my_optimizer": ("optimizers", "centralized_sgd(momentum=0.9)", "test accuracy "),
    "my_schedule": ("schedules", "inverse_sqrt(warmup=0.1)", "test accuracy "),
    "my_logger": ("loggers", "csv_file(metric='loss')", "test accuracy "),
    "my_augmentation": ("augmentations", "sensor_noise(sigma=(0.0, 0.1))", "test accuracy "),
    "my_explanation": ("explanations", "input_times_gradient(absolute=False)", "(absolute=True): wrote 1 .png"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with all files of the page; what they register is removed after the test."""
    before = {kind: dict(each._entries) for kind, each in registry.REGISTRIES.items()}
    known_commands, modules = dict(command._commands), set(sys.modules)
    for name, source in FILES.items():
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for kind, each in registry.REGISTRIES.items():
        each._entries = {name: e for name, e in each._entries.items() if name in before[kind] or _is_built_in(e)}
    for name in command._commands.keys() - known_commands.keys():
        if not command._commands[name].function.__module__.startswith("jaxvision."):
            del command._commands[name]
    for name in sys.modules.keys() - modules:
        if f"{name}.py" in FILES:
            del sys.modules[name]


def _is_built_in(entry):
    return entry.factory.__module__.startswith("jaxvision.")


def documented(program, file):
    """Return the words of the one command on the page that runs a program with a file."""
    found = [words for words in COMMANDS if words[: len(program)] == program and any(file in word for word in words)]
    assert len(found) == 1, (program, file, found)
    return found[0]


def script(folder, *words):
    """Run a Python file of the page in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent.parent), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def run_test_of(name, capsys):
    """Call the test functions of a documented test file."""
    found = {each: f for each, f in vars(import_plugin(f"test_{name}.py")).items() if each.startswith("test_")}
    assert found
    for function in found.values():
        function(**{"capsys": capsys} if "capsys" in inspect.signature(function).parameters else {})


def test_every_kind_has_a_file_and_every_file_a_test():
    plugin_files = {name for name in FILES if name.startswith("my_")}
    assert plugin_files == {f"{name}.py" for name in [*LISTED, "my_command"]}
    assert {f"test_{name}" for name in plugin_files} <= FILES.keys()
    assert {kind for kind, _, _ in LISTED.values()} == set(registry.REGISTRIES)
    for each in registry.REGISTRIES.values():
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| {each.kind} | `jv."))
        assert f"`jv.{each.home.rpartition('.')[2]}.register`" in row
        assert re.findall(r"`(\w+)`", row.split("|")[3]) == list(each.context)
    assert all(f"testing.{name}(" in TEXT for name in testing.__all__)
    assert all(name in (testing.__doc__ or "") for name in testing.__all__)


def explain_photo(words):
    """Train the run of a command, write the photo that it explains, and run it."""
    Path("photos").mkdir()
    Image.new("RGB", (9, 9), "red").save("photos/1.png")
    assert run("train", [f"--dataset={DATASET}", "--model=mlp(hidden=(8,))", *TINY]) == 0
    assert run("explain", words) == 0


@pytest.mark.parametrize("name", LISTED)
def test_a_plugin_is_listed_runs_and_passes_its_test(name, folder, capsys):
    kind, signature, printed = LISTED[name]
    assert run("list", [kind, f"--plugins={name}.py"]) == 0
    summary = re.search(
        r'^def \w+\(.*?"""(.*?)"""', FILES[f"{name}.py"][FILES[f"{name}.py"].index("register(") :], re.M | re.S
    )
    assert summary and f"  {signature}\n      {summary[1]}" in capsys.readouterr().out
    if name == "my_explanation":
        explain_photo(documented(["jaxvision", "explain"], f"{name}.py")[2:])
        assert printed in capsys.readouterr().out
        return run_test_of(name, capsys)
    if name == "my_dataset":
        assert script(folder, *documented(["python"], "make_csv.py")[1:]).returncode == 0
    words = documented(["jaxvision", "train"], f"{name}.py")[2:]
    own = [] if name == "my_dataset" else [f"--dataset={DATASET}"]
    model = [] if kind == "models" else ["--model=mlp(hidden=(8,))"]  # of a flag that is repeated, the last counts
    assert run("train", [*words, *own, *model, *TINY]) == 0
    out = capsys.readouterr().out
    assert printed in out
    settings = [json.loads((folder / "run" / file).read_text()) for file in ("config.json", "execution.json")]
    assert signature.partition("(")[0] in str([list(values.values()) for values in settings])
    run_test_of(name, capsys)


def test_the_figures_of_a_task_are_printed_and_stored(folder, capsys):
    words = documented(["jaxvision", "train"], "my_task.py")[2:]
    assert run("train", [*words, f"--dataset={DATASET}", "--model=mlp(hidden=())", *TINY]) == 0
    *_, told, _, last = capsys.readouterr().out.splitlines()
    report = json.loads((folder / "run" / "report" / "report.json").read_text())
    assert last == f"test quadratic kappa {report['quadratic_kappa']:.4f}"
    assert "squared distance" in told and "mean distance" in told
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"quadratic_kappa", "squared_distance"} <= rows[-1].keys()
    assert run("evaluate", ["--workdir=run", "--split=validation"]) == 0  # the run knows its plug-in
    assert "quadratic kappa" in capsys.readouterr().out


def test_an_augmentation_is_previewed(folder, capsys):
    words = documented(["jaxvision", "preview"], "my_augmentation.py")[2:]
    assert run("preview", [*words, f"--dataset={DATASET}", "--num_images=1", "--num_versions=1", "--out=p.png"]) == 0
    assert (folder / "p.png").is_file()


def test_a_command_of_a_plugin_runs_by_its_name(folder, capsys, monkeypatch):
    def jaxvision(*words):
        monkeypatch.setattr(sys, "argv", ["jaxvision", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    words = documented(["jaxvision", "class_counts"], "my_command.py")[1:]
    status, said = jaxvision(*words)
    assert status == 0, said.err
    assert [line.partition(":")[0] for line in said.out.splitlines()] == ["train", "validation", "test"]
    status, said = jaxvision(*words, "--least=many")
    assert status == 2 and len(said.err.splitlines()) == 1
    run_test_of("my_command", capsys)


def test_published_plugins_need_no_flag(folder, monkeypatch):
    sections = [tomllib.loads(each) for each in re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
    points = sections[0]["project"]["entry-points"]["jaxvision.plugins"]
    assert points == {name: name for name in [*LISTED, "my_command"]}
    package = folder / "documented_plugins-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: documented-plugins\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (package / "entry_points.txt").write_text("\n".join(["[jaxvision.plugins]", *lines]))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(plugins, "_loaded_plugins", set())
    plugins.load_entry_points()
    for kind, signature, _ in LISTED.values():
        assert signature.partition("(")[0] in registry.REGISTRIES[kind].names()
    assert "class_counts" in command.commands()


WRONG = {  # kind: the flags, and what the message expects of a factory
    "models": ("--model=wrong", "jaxvision.Model"),
    "datasets": ("--dataset=wrong", "jaxvision.Dataset"),
    "tasks": ("--task=wrong", "jaxvision.Task"),
    "losses": ("--task=multiclass(loss='wrong')", "a function"),
    "gradients": ("--gradient=wrong", "jaxvision.Gradient"),
    "optimizers": ("--optimizer=wrong --learning_rate=0.1", "an object with init and update"),
    "schedules": ("--schedule=wrong", "a function"),
    "augmentations": ("--augmentations=wrong", "a function"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_factory_that_returns_the_wrong_type_is_refused_in_one_line(kind, folder, capsys):
    flags, expected = WRONG[kind]
    (folder / "wrong_plugin.py").write_text(
        f'import jaxvision as jv\n\n\n@jv.{kind}.register("wrong")\ndef wrong():\n    """Wrong."""\n    return 3\n'
    )
    short = [f"--dataset={DATASET}", "--model=mlp(hidden=(8,))", *TINY]
    assert run("train", [*short, "--plugins=wrong_plugin.py", *flags.split()]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert re.search(r"wrong_plugin\.py:\d+ returned int; expected ", err) and err.rstrip().endswith(expected)
    sys.modules.pop("wrong_plugin", None)


@pytest.mark.parametrize(
    ("documented_part", "broken_part", "why"),
    [
        (
            "distance_weight * distance,",
            'distance.mean(),\n            "mean": distance.mean(),',
            "returned mean of shape",
        ),
        ('"loss": optax', '"cost": optax', "returned no value named loss"),
        ('jv.Monitor("quadratic_kappa", "max")', '"quadratic_kappa"', "expected jaxvision.Monitor(name, mode)"),
    ],
)
def test_a_task_that_breaks_its_contract_is_refused_in_one_line(documented_part, broken_part, why, folder, capsys):
    assert documented_part in FILES["my_task.py"]
    (folder / "my_task.py").write_text(FILES["my_task.py"].replace(documented_part, broken_part))
    short = [f"--dataset={DATASET}", "--model=mlp(hidden=())", *TINY]
    assert run("train", [*short, "--plugins=my_task.py", "--task=graded"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and why in err
    assert not (folder / "run" / "checkpoints").exists()


RULE = """
import jax
import jax.numpy as jnp
import jaxvision as jv
from jaxvision.gradients.mean import divided_by_count, summed_gradient


@jv.gradients.register("broken")
def broken() -> jv.Gradient:
    def microbatch(loss, params, state, batch, key):
        {microbatch}

    def finish(sums, count, key):
        {finish}

    return jv.Gradient(microbatch, finish)
"""
SUMMED = "sums, values, state = summed_gradient(loss, params, state, batch, key)\n"
KEPT = "return divided_by_count(sums, count, key)"
BROKEN = {  # the message of the check: the bodies of microbatch and finish
    "not add up|number of rows of padding": (
        "gradients, values, state = summed_gradient(loss, params, state, batch, key)\n"
        "return jax.tree.map(lambda leaf: leaf / len(batch['mask']), gradients), values, state",
        KEPT,
    ),
    "rows of padding count": (
        "batch = {**batch, 'mask': jnp.ones_like(batch['mask'])}\n"
        "return summed_gradient(loss, params, state, batch, key)",
        KEPT,
    ),
    "is not the sum over the examples": (
        SUMMED + "return sums, {name: value / 2 for name, value in values.items()}, state",
        KEPT,
    ),
    "values are loss; expected loss, accuracy": (SUMMED + "return sums, {'loss': values['loss']}, state", KEPT),
    "microbatches do not add up": (
        SUMMED + "norm = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(sums)) ** 0.5\n"
        "return jax.tree.map(lambda leaf: leaf / norm, sums), values, state",
        KEPT,
    ),
    "another structure": (SUMMED + "return jax.tree.leaves(sums), values, state", KEPT),
    "frozen parameters, which are None": (
        SUMMED + "return {name: {'kernel': 1 * p['kernel'], 'bias': 1 * p['bias']} for name, p in sums.items()}, "
        "values, state",
        KEPT,
    ),
    "with frozen parameters, finish": (
        SUMMED + "return sums, values, state",
        "zeros = jax.tree.map(lambda leaf: jnp.zeros(3) if leaf is None else leaf / count, sums, "
        "is_leaf=lambda leaf: leaf is None)\nreturn zeros",
    ),
    "not finite": (SUMMED + "return sums, values, state", "return jax.tree.map(lambda leaf: leaf / 0, sums)"),
}


def register_rule(folder, microbatch, finish):
    """Write and load a plug-in with the gradient rule "broken" of those bodies."""
    bodies = {"microbatch": microbatch, "finish": finish}
    indented = {name: textwrap.indent(body, " " * 8).strip() for name, body in bodies.items()}
    source = RULE
    for name, body in indented.items():
        source = source.replace(f"{{{name}}}", body)
    (folder / "broken_rule.py").write_text(source)
    load_plugins([str(folder / "broken_rule.py")])


@pytest.mark.parametrize("why", BROKEN)
def test_broken_gradient_rules_fail_their_check(why, folder):
    register_rule(folder, *BROKEN[why])
    with pytest.raises(AssertionError, match=why):
        testing.check_gradient("broken")


def test_the_check_of_gradient_rules_leaves_out_what_does_not_apply(folder):
    testing.check_gradient("mean")
    testing.check_gradient("sam(rho=0.5)", is_additive=False)
    with pytest.raises(AssertionError, match="microbatches do not add up"):
        testing.check_gradient("sam(rho=0.5)")
    drawn = SUMMED + "return jax.tree.map(lambda p: p + jax.random.normal(key, p.shape), sums), values, state"
    register_rule(folder, drawn, KEPT)
    testing.check_gradient("broken", is_deterministic=False)
    with pytest.raises(AssertionError):
        testing.check_gradient("broken")


def test_the_documented_rule_without_its_mask_fails(folder):
    source = FILES["my_gradient.py"]
    assert ' * example["mask"]' in source
    (folder / "unmasked.py").write_text(source.replace(' * example["mask"]', "").replace('"clipped"', '"unmasked"'))
    load_plugins([str(folder / "unmasked.py")])
    with pytest.raises(AssertionError, match="rows of padding count"):
        testing.check_gradient("unmasked")
