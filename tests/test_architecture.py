"""Imports point down: scripts → edges → verbs → run → machinery → words ← plug-ins."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxvision"

WORDS = {"interfaces", "registry", "config", "space", "metrics", "images", "advice", "trees"}
PLUGINS = {"models", "datasets", "tasks", "augments", "optimizers", "schedules"}
MACHINERY = {
    "pipeline",
    "parallel",
    "step",
    "checkpoint",
    "logs",
    "pictures",
    "weights",
    "weight_files",
    "transfer",
    "interrupts",
    "workdir",
    "hosts",
    "memory",
}
RUN = {"run", "pretrained", "job", "reports", "judge"}
VERBS = {"train", "evaluate", "predict", "preview", "convert", "ensemble", "dataset_report", "sweep"}
EDGES = {"cli", "testing", "scaling", "torture", "parity", "benchmarks"}

ALLOWED = {
    **dict.fromkeys(WORDS, WORDS),
    **dict.fromkeys(PLUGINS, WORDS),
    **dict.fromkeys(MACHINERY, WORDS | {"parallel", "hosts"}),
    "run": WORDS | MACHINERY | {"datasets"},  # the cache's folder, and arrays in memory
    "reports": WORDS | {"logs", "pictures"},
    "judge": WORDS | MACHINERY | {"run"},
    "pretrained": WORDS | MACHINERY | {"run"},
    "job": WORDS | MACHINERY | {"run", "pretrained", "evaluate", "augments", "optimizers"},
    **dict.fromkeys(VERBS, WORDS | MACHINERY | RUN | {"evaluate"}),
    "sweep": WORDS | MACHINERY | RUN | {"train"},
    **dict.fromkeys(EDGES, WORDS | MACHINERY | VERBS | RUN),
    "cli": WORDS | MACHINERY | VERBS | RUN | {"scaling", "torture", "parity", "benchmarks"},
    "benchmarks": WORDS | MACHINERY | RUN | {"parity", "cli", "datasets"},  # the last: where data are prepared
}
KNOWN_TO = {  # outside libraries, each known to as few files as can be
    "absl": {"cli.py"},
    "orbax": {"checkpoint.py"},
    "grain": {"pipeline.py"},
    "flax": {"models"},
    "tensorflow_datasets": {"datasets"},
    "matplotlib": {"pictures.py"},
    "tqdm": {"logs.py", "datasets"},
    "sklearn": {"metrics.py", "datasets"},
    "scipy": {"metrics.py"},
    "PIL": {"images.py", "dataset_report.py", "datasets", "benchmarks"},
    "optax": {"optimizers.py", "schedules.py", "step.py", "job.py", "tasks"},
    "typeguard": {"registry.py", "config.py"},
    "tensorboardX": {"logs.py"},
    "pyarrow": {"datasets"},
    "requests": {"datasets"},
    "urllib3": {"datasets"},  # it comes with requests, which connects through it
    "torch": {"parity.py", "weight_files.py", "benchmarks"},
    "torchvision": {"parity.py"},
    "keras": {"benchmarks"},
    "timm": {"parity.py"},
    "safetensors": {"weight_files.py", "parity.py", "convert.py"},
    "huggingface_hub": {"weight_files.py"},
}


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "jaxvision" else [node.module]


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("jaxvision.")}
    assert ours <= ALLOWED[place] | {place}, f"{path.name} imports {ours - ALLOWED[place] - {place}}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_are_known_to_few_files(path):
    place = path.relative_to(PACKAGE).parts[0]
    outside = {name.split(".")[0] for name in imports(path)}
    for library in outside & KNOWN_TO.keys():
        assert place in KNOWN_TO[library], f"{place} imports {library}"
    assert "tensorflow" not in outside
    assert outside <= KNOWN_TO.keys() | sys.stdlib_module_names | {"jax", "numpy", "jaxvision", "array_record", "etils"}


def test_a_model_family_never_imports_a_sibling():
    shared = {"linen", "nnx", "layers", "convolution", "inverted_residual"}
    families = {p.stem for p in (PACKAGE / "models").glob("*.py")} - shared - {"__init__"}
    for path in (PACKAGE / "models").glob("*.py"):
        siblings = {n.split(".")[2] for n in imports(path) if n.startswith("jaxvision.models.")}
        assert not siblings & families, f"{path.name} imports {siblings & families}"


def test_scripts_hold_no_logic():
    for path in (PACKAGE.parent / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text())
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)], f"{path.name} defines functions"
