"""Imports point down: cli → edges → commands → run → engine → words ← plugins. Files and functions stay short."""

import ast
import sys
from pathlib import Path

import pytest
from trace_path import code_lines, long_functions, traced_files

PACKAGE = Path(__file__).parent.parent / "jaxvision"

WORDS = (
    "interfaces config schemas specs registry plugins trust splits folds storage new_folder trees machine images "
    "image_files walk arrays "
    "quality_check search_space materialize upgrades hints failures spec_equality interruption home "
    "class_names image_decoding decoder_messages pixel_modes resizing prediction_inputs spec_limits split_roles "
    "explanation weights_package array_cache linear_head thread_pools confidence_interval markdown calibration "
    "label_errors"
)
PLUGINS = "models datasets tasks losses gradients augmentations optimizers schedules explanations loggers"
RUN = (
    "workdir new_workdir model_variants data run pretrained training_setup threshold_file temperature_file features "
    "fitted_head near_duplicates initial_weights heat_maps spec_check"
)
COMMANDS = (
    "train evaluate evaluation predict prediction_file prediction_rows preview export ensemble ensemble_outputs "
    "dataset_report sweep ranking trials generative_metrics probe thresholds "
    "evaluation_data finetune learning_curve label_next fewshot feature_classifiers model_card model_card_results "
    "model_card_usage label_suspects explain range_test"
)
EDGES = "reports testing"
LAYERS = {  # folder or file: the layers that it may import, beside its own
    WORDS: "",
    PLUGINS: WORDS,
    "distributed": WORDS,
    "weights": WORDS,
    "engine": f"{WORDS} distributed",
    RUN: f"{WORDS} distributed weights engine",
    COMMANDS: f"{WORDS} distributed weights engine {RUN} {EDGES}",
    EDGES: f"{WORDS} distributed weights engine {RUN}",
    "cli": f"{WORDS} distributed weights engine {RUN} {COMMANDS} {EDGES}",
    "__main__": "cli",
}
LAYER_OF = {name: layer.split() for layer in LAYERS for name in layer.split()}
ALLOWED = {name: LAYERS[layer].split() for layer in LAYERS for name in layer.split()}
KNOWN_TO = {  # outside libraries, each known to as few files as can be
    "absl": {"cli"},
    "orbax": {"engine/checkpoint.py"},
    "grain": {"engine/decoding.py"},
    "flax": {"models"},
    "tensorflow_datasets": {"datasets"},
    "matplotlib": {"reports/plots.py"},
    "tqdm": {"engine/logs.py", "datasets"},
    "sklearn": {"tasks", "datasets", "linear_head.py", "thread_pools.py"},
    "threadpoolctl": {"thread_pools.py"},
    "scipy": {"tasks", "linear_head.py", "confidence_interval.py", "calibration.py", "reports/page/significance.py"},
    "PIL": {
        "image_decoding.py",
        "pixel_modes.py",
        "resizing.py",
        "near_duplicates.py",
        "reports/page/thumbnails.py",
        "datasets",
    },
    "optax": {"optimizers", "schedules", "gradients", "losses", "tasks", "engine", "training_setup.py"},
    "typeguard": {"registry.py", "schemas.py"},
    "tensorboardX": {"loggers/tensorboard.py"},
    "wandb": {"loggers/weights_and_biases.py"},
    "mlflow": {"loggers/mlflow_runs.py"},
    "pyarrow": {"datasets"},
    "requests": {"datasets"},
    "urllib3": {"datasets"},  # it comes with requests, which connects through it
    "safetensors": {"weights"},
    "huggingface_hub": {"weights"},
    "etils": {"storage.py"},
    "array_record": {"datasets"},
}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
PATH_LINES, PATH_FILES = 2_562, 27  # what a reader of a run must know today; these only go down
INNERMOST = (
    "interfaces.py",
    "engine/pipeline.py",
    "engine/step.py",
    "training_setup.py",
    "train.py",
    "distributed/mesh.py",
)


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "jaxvision" else [node.module]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = name_of(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("jaxvision.")}
    same = {own} if own in PLUGINS.split() else set(LAYER_OF[own])  # plug-ins know their own folder alone
    known = {*ALLOWED[own], *same}
    assert ours <= known, f"{path.name} imports {ours - known}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_are_known_to_few_files(path):
    place = str(path.relative_to(PACKAGE))
    outside = {name.split(".")[0] for name in imports(path)} - {"jaxvision"}
    for library in outside & KNOWN_TO.keys():
        assert {place, place.split("/")[0]} & KNOWN_TO[library], f"{place} imports {library}"
    assert outside <= KNOWN_TO.keys() | sys.stdlib_module_names | {"jax", "numpy"}


def test_a_model_family_never_imports_a_sibling():
    shared = {"linen", "nnx", "layers", "convolution", "pooling", "inverted_residual", "synchrony"}
    families = {p.stem for p in (PACKAGE / "models").glob("*.py")} - shared - {"__init__"}
    for path in (PACKAGE / "models").glob("*.py"):
        siblings = {n.split(".")[2] for n in imports(path) if n.startswith("jaxvision.models.")}
        assert not siblings & families, f"{path.name} imports {siblings & families}"


def test_models_know_nothing_of_devices():
    shared = {"linen", "nnx"}
    for path in (PACKAGE / "models").glob("*.py"):
        if path.stem not in shared:
            assert "axis_name" not in path.read_text() and "nn.remat" not in path.read_text(), path.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    assert code_lines(path) <= 250
    assert not long_functions(path, most=50)


def test_code_is_counted_without_comments_and_docstrings(tmp_path):
    file = tmp_path / "module.py"
    body = '"""Docstring\nof two lines."""\n\n# comment\nx = 1  # code\n\n\n'
    body += 'def f():\n    """Docstring."""\n    return """a\nb"""\n'
    file.write_text(body)
    assert code_lines(file) == 4
    file.write_text(body + "def g():\n" + "    x = 1\n" * 51)
    assert [name.split()[1] for name in long_functions(file, most=50)] == ["g"]


def test_the_path_of_a_run_stays_short():
    counted = traced_files(PACKAGE.parent)
    assert {"train.py", "engine/step.py", "engine/checkpoint.py"} <= counted.keys()
    assert sum(counted.values()) <= PATH_LINES, counted
    assert len(counted) <= PATH_FILES, sorted(counted)
    assert sum(code_lines(PACKAGE / name) for name in INNERMOST) <= 800
