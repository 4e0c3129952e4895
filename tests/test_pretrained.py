"""Pretrained weights: where they are found, which of them fit, and messages if they do not."""

import functools
import http.server
import importlib.util
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxvision as jv
from jaxvision import cli, pretrained, registry, training_setup
from jaxvision import run as runs
from jaxvision.confidence_interval import wilson
from jaxvision.data import open_dataset
from jaxvision.images import IMAGENET_MEAN
from jaxvision.interfaces import Preprocessing
from jaxvision.weights import files, mapping

DATASET = "synthetic(num_examples=60, num_classes=3, image_size=16)"
SMALL = "cnn(channels=(4, 8), dense=(8,), padding='SAME', batch_norm=True)"
CONFIG = jv.Config(model=SMALL, dataset=DATASET, batch_size=12, steps=2)
NAMES = registry.models.entry("resnet18").metadata["names"]["timm"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A trained run of a small network."""
    return jv.train(CONFIG, workdir=tmp_path_factory.mktemp("source") / "run").workdir


@pytest.fixture(scope="module")
def small():
    """resnet18's parameters for images of 32 pixels, as a function of the number of outputs and of the seed."""

    @functools.cache
    def made(output_size, seed):
        return jv.create_model("resnet18", output_size=output_size, image_size=32, seed=seed)

    return made


@pytest.fixture
def folder(tmp_path, small):
    """A folder with resnet18's weights under timm's names, for three classes, and what belongs to them."""
    _, params, state = small(3, 1)
    preprocessing = Preprocessing((40, 48), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.9, "bicubic")
    tensors = mapping.export(params, state, NAMES)
    files.write(
        tmp_path / "weights",
        tensors,
        architecture="resnet18",
        preprocessing=preprocessing,
        classes=("a", "b", "c"),
        num_outputs=3,
    )
    return tmp_path / "weights"


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_what_was_written_is_read_with_its_preprocessing_and_classes(folder, small):
    found = files.read(str(folder))
    assert found.preprocessing == Preprocessing((40, 48), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.9, "bicubic")
    assert found.classes == ("a", "b", "c")
    _, params, state = jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32)
    assert same((params, state), small(3, 1)[1:]) and not same(params, small(3, 0)[1])
    lone = jv.create_model("resnet18", output_size=3, init_from=str(folder / "model.safetensors"), image_size=32)
    assert same(lone[1:], (params, state))


def test_a_head_of_another_width_is_new_only_when_asked(folder, small):
    with pytest.raises(
        ValueError,
        match=r"head/kernel is \[512, 3\] in the weights, \[512, 5\] in the model.*replace_head=True initializes",
    ):
        jv.create_model("resnet18", output_size=5, init_from=str(folder), image_size=32)
    with pytest.warns(
        UserWarning, match=r"the head is new \(head/kernel is \[512, 3\] in the weights, \[512, 5\] in the model\)"
    ):
        _, params, state = jv.create_model(
            "resnet18", output_size=5, init_from=str(folder), image_size=32, replace_head=True
        )
    expected, new = small(3, 1), small(5, 0)
    assert same(params["head"], new[1]["head"]) and same(state, expected[2])
    assert all(same(params[name], expected[1][name]) for name in params if name != "head")


def test_a_kernel_for_greys_answers_as_for_their_colours(folder):
    colour, params, state = jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32)
    with pytest.warns(UserWarning, match=r"adapted stem_conv/kernel from \[7, 7, 3, 64\] to \[7, 7, 1, 64\]"):
        grey, adapted, _ = jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32, channels=1)
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    one, _ = colour.apply(params, state, jnp.repeat(image, 3, axis=-1), train=False, key=None)
    other, _ = grey.apply(adapted, state, image, train=False, key=None)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def changed(tensors, how):
    match how:
        case "missing":
            tensors.pop("layer2.0.conv1.weight")
        case "unexpected":
            tensors["layer9.weight"] = np.zeros((2, 3), np.float32)
        case "misshapen":
            tensors["layer2.0.conv1.weight"] = np.zeros((7, 64, 3, 3), np.float32)
        case "other":
            tensors = {f"encoder.{name}": value for name, value in tensors.items()}
    return tensors


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", r"stage2_block1/conv1/kernel \[3, 3, 64, 128\] is missing$"),
        ("unexpected", r"layer9.weight \[2, 3\] is unexpected$"),
        ("misshapen", r"stage2_block1/conv1/kernel is \[3, 3, 64, 7\] in the weights, \[3, 3, 64, 128\] in the model$"),
        ("other", r"\(0 tensors do\).*and 200 more"),
    ],
)
def test_what_does_not_fit_is_listed_by_name_and_shape(folder, how, why):
    tensors = changed(safetensors.numpy.load_file(folder / "model.safetensors"), how)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=why):
        jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32)


def test_the_model_that_is_meant_is_named(tmp_path):
    params, state = jax.eval_shape(
        registry.models.build("resnet18", output_size=1000).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (params, state))
    safetensors.numpy.save_file(mapping.export(*zeros, NAMES), tmp_path / "file.safetensors")
    with pytest.raises(
        ValueError, match=r"do not fit the model 'resnet34'.*; resnet18 has the same number of parameters"
    ):
        jv.create_model("resnet34", output_size=1000, init_from=str(tmp_path / "file.safetensors"), image_size=32)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (str(Malicious.place),)


def test_no_code_of_a_pickle_is_run(tmp_path):
    torch = pytest.importorskip("torch")
    Malicious.place = tmp_path / "executed"
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "extra": Malicious()}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(
            ValueError, match=rf"{name}' (holds posix.mkdir, which PyTorch would run|is not a PyTorch file|is damaged)"
        ):
            files.read(str(tmp_path / name))
    assert not Malicious.place.exists()


def test_files_of_torch_are_read_as_others(tmp_path, folder, small):
    torch = pytest.importorskip("torch")
    tensors = {n: torch.tensor(t) for n, t in safetensors.numpy.load_file(folder / "model.safetensors").items()}
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in tensors.items()}}, tmp_path / "run.pth")
    torch.save({n: t.to(torch.bfloat16) for n, t in tensors.items()}, tmp_path / "half.pth")
    _, params, state = jv.create_model("resnet18", output_size=3, init_from=str(tmp_path / "run.pth"), image_size=32)
    assert same((params, state), small(3, 1)[1:])
    _, params, _ = jv.create_model("resnet18", output_size=3, init_from=str(tmp_path / "half.pth"), image_size=32)
    np.testing.assert_allclose(params["head"]["kernel"], small(3, 1)[1]["head"]["kernel"], rtol=1e-2)
    assert params["head"]["kernel"].dtype == jnp.float32
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state_dict of tensors by name"):
        files.read(str(tmp_path / "list.pth"))


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "empty.safetensors", "text.pth"])
def test_damaged_files_are_told_in_one_line(tmp_path, folder, name):
    content = (folder / "model.safetensors").read_bytes()
    if name.endswith(".pth"):
        torch = pytest.importorskip("torch")
        torch.save({"weight": torch.zeros(500)}, tmp_path / "whole.pth")
        content = (tmp_path / "whole.pth").read_bytes()
    content = {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[name.partition(".")[0]]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{name}' is (not a valid safetensors file|damaged or not a PyTorch file|not a PyTorch)"
    ):
        files.read(str(tmp_path / name))


@pytest.mark.parametrize(
    ("init_from", "why"),
    [
        ("pretraned", "did you mean 'pretrained'"),
        ("gone.safetensors", "no weights file 'gone.safetensors'"),
        ("hf://a/b/c/d", "not of the form hf://owner/name"),
        ("pretrained", "'cnn' has no registered pretrained weights; these models have: .*resnet18"),
        (".", "is not a workdir and has no model.safetensors"),
    ],
)
def test_what_names_no_weights_is_refused(tmp_path, monkeypatch, init_from, why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        jv.train(CONFIG.replace(init_from=init_from), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ── the hub ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does: files of one repository, from a folder."""

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        self.answer(send=True)

    def answer(self, *, send):
        prefix, _, name = self.path.partition("/resolve/main/")
        file = self.server.folder / name
        if prefix != "/timm/resnet18.a1_in1k":
            self.refuse("RepoNotFound")
        elif not file.is_file():
            self.refuse("EntryNotFound")
        else:
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{len(content):040x}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if send:
                self.wfile.write(content)

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(folder, tmp_path):
    """Serves the folder as timm/resnet18.a1_in1k: what a process must have in its environment to ask there."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), Hub)
    server.folder = folder
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = {"HF_ENDPOINT": f"http://localhost:{server.server_port}", "HF_HOME": str(tmp_path / "hub")}
    yield {**os.environ, **place, "HF_HUB_DISABLE_TELEMETRY": "1", "JAX_PLATFORMS": "cpu"}
    server.shutdown()
    server.server_close()


def launched(root, environment, *flags):
    words = ["--dataset=synthetic(num_examples=40, num_classes=3)", "--batch_size=8", "--steps=1", "--model=resnet18"]
    command = [sys.executable, root / "scripts" / "launch.py", *words, *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_weights_of_the_hub_come_once_and_their_preprocessing_stays(hub, root, tmp_path):
    flags = ["--init_from=pretrained", "--freeze=backbone", f"--workdir={tmp_path / 'run'}"]
    done = launched(root, hub, *flags)
    assert done.returncode == 0, done.stderr
    assert (
        "starts from hf://timm/resnet18.a1_in1k (100 tensors under the names of torchvision): the head is new"
        in done.stdout
    )
    preprocessing = jv.load(tmp_path / "run").run.signature.preprocessing
    assert preprocessing == Preprocessing((40, 48), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.9, "bicubic")
    offline = {**hub, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://localhost:1"}
    named = ["--init_from=hf://timm/resnet18.a1_in1k", *flags[1:2], f"--workdir={tmp_path / 'again'}"]
    again = launched(root, offline, *named)
    assert again.returncode == 0, again.stderr
    shutil.rmtree(tmp_path / "hub")
    longer = launched(root, offline, *flags, "--steps=2")  # what goes on needs them no more
    assert longer.returncode == 0 and "resumes at step 1" in longer.stdout, longer.stderr
    lost = launched(root, offline, "--init_from=pretrained", f"--workdir={tmp_path / 'lost'}")
    assert lost.returncode == 2 and lost.stderr.count("\n") == 1
    assert "is not in the hub's cache and the hub cannot be reached" in lost.stderr


def test_what_the_hub_has_not_is_told_in_one_line(hub, root, tmp_path, folder):
    other = launched(root, hub, "--init_from=hf://timm/nothing", f"--workdir={tmp_path / 'run'}")
    assert other.returncode == 2 and other.stderr.count("\n") == 1
    assert "no public repository 'hf://timm/nothing' on the hub" in other.stderr
    (folder / "model.safetensors").unlink()
    empty = launched(root, hub, "--init_from=pretrained", f"--workdir={tmp_path / 'run'}")
    assert empty.returncode == 2 and "has no model.safetensors and no pytorch_model.bin" in empty.stderr


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_begins_with_another_runs_weights(source, tmp_path, capsys):
    run = jv.train(CONFIG.replace(init_from=str(source), learning_rate=1e-30), workdir=tmp_path / "run")
    assert re.search(
        rf"starts from step \d of {source} \(14 tensors under the names of jaxvision\)\n", capsys.readouterr().out
    )
    one, other = jv.load(source), jv.load(run.workdir)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert one.run.signature.preprocessing == other.run.signature.preprocessing


def test_other_classes_have_a_head_of_their_own_whatever_its_width(source, tmp_path, capsys):
    images = np.random.default_rng(0).random((60, 16, 16, 3)).astype(np.float32)
    labels = np.array(["red", "green", "blue"] * 20)
    jv.train(CONFIG.replace(init_from=str(source)), workdir=tmp_path / "run", dataset=(images, labels))
    assert "the head is new (different classes)" in capsys.readouterr().out


def test_a_run_that_began_with_weights_resumes_exactly_without_them(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    config = CONFIG.replace(init_from=str(tmp_path / "source"), steps=4, eval_every=2, freeze="conv1")
    whole = jv.train(config, workdir=tmp_path / "whole")
    shutil.copytree(whole.workdir, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "4")
    shutil.rmtree(tmp_path / "source")
    again = jv.train(config, workdir=tmp_path / "part")
    assert same(jv.load(again.workdir, checkpoint=4).params, jv.load(whole.workdir, checkpoint=4).params)
    jv.evaluate(again.workdir)


def test_images_come_in_the_size_of_the_weights_unless_asked_otherwise(folder, tmp_path):
    config = CONFIG.replace(model="resnet18", init_from=str(folder), steps=1, batch_size=4)
    images = np.random.default_rng(0).random((30, 20, 20, 3)).astype(np.float32)
    run = jv.train(config, workdir=tmp_path / "run", dataset=(images, np.arange(30) % 3))
    assert jv.load(run.workdir).run.signature.preprocessing.size == (40, 48)
    assert jv.predict(run.workdir, images[:2]).probabilities.shape == (2, 3)
    wanted = files.read(str(folder)).preprocessing
    asked = open_dataset(CONFIG, preprocessing=wanted)  # its spec has an image_size
    assert asked.preprocessing.size == (16, 16) and asked.preprocessing.mean == (0.5, 0.4, 0.3)
    grey = open_dataset(CONFIG.replace(dataset="digits"), preprocessing=wanted)
    assert grey.preprocessing.size == (40, 48) and grey.preprocessing.mean == pytest.approx((0.4,))
    assert grey.train.read(np.arange(2)).shape == (2, 40, 48, 1)


def test_the_way_to_timm_and_back(source, tmp_path, capsys):
    with pytest.raises(ValueError, match="timm has no model like 'cnn'"):
        jv.export(source, tmp_path / "out")
    run = jv.train(CONFIG.replace(model="resnet18(stem='imagenet')", steps=1), workdir=tmp_path / "run")
    place = tmp_path / "out"
    assert cli.run("export", [f"--workdir={run.workdir}", f"--folder={place}"]) == 0
    assert f"wrote {place / 'model.safetensors'}, config.json and README.md, the model card" in capsys.readouterr().out
    card = (place / "README.md").read_text()
    low, high = wilson(round(run.test["accuracy"] * run.test["num_examples"]), run.test["num_examples"])
    assert f"| accuracy | {run.test['accuracy']:.4f} | {low:.4f} to {high:.4f} |" in card
    content = json.loads((place / "config.json").read_text())
    assert content["architecture"] == "resnet18" and content["label_names"] == ["class 0", "class 1", "class 2"]
    found, trained = files.read(str(place)), jv.load(run.workdir)
    assert found.preprocessing == trained.run.signature.preprocessing
    _, params, state = jv.create_model("resnet18", output_size=3, init_from=str(place), image_size=16)
    assert same((params, state), (trained.params, trained.model_state))
    if importlib.util.find_spec("timm"):
        import parity

        parity.import_torchvision()
        import timm
        import torch

        theirs = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
        image = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
        wanted = theirs(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
        model = registry.models.build("resnet18", output_size=3)
        np.testing.assert_allclose(
            model.apply(params, state, image, train=False, key=None)[0], wanted, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    ("spec", "source", "told"),
    [
        ("resnet18(stem='cifar')", "timm", "timm's is resnet18(stem='imagenet')"),
        ("mobilenet_v3_small(norm_epsilon=0.001)", "timm", "timm's is mobilenet_v3_small(norm_epsilon=1e-05)"),
        ("mobilenet_v3_small(dropout=0.2)", "timm", ""),
        ("mobilenet_v3_small", "torchvision", "torchvision's is mobilenet_v3_small(norm_epsilon=0.001)"),
        ("efficientnet_b7", "timm", "timm's is efficientnet_b7(norm_epsilon=1e-05)"),
        ("efficientnet_b7", "torchvision", ""),
    ],
)
def test_how_a_library_computes_is_known_where_it_differs(spec, source, told):
    assert pretrained.computes_otherwise(spec, source) == told


def test_weights_that_would_compute_otherwise_in_timm_are_not_converted(tmp_path):
    run = jv.train(CONFIG.replace(model="resnet18(stem='cifar')", steps=1), workdir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"cannot be exported: timm's is resnet18\(stem='imagenet'\)"):
        jv.export(run.workdir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_grid_of_patches_is_that_of_the_size_of_the_source():
    wide = np.concatenate([np.zeros((1, 1, 1)), np.arange(16.0).reshape(1, 16, 1) // 8], axis=1)  # 2 rows of 8
    square = mapping._other_size(wide, (4, 4), (2, 8))[0, 1:, 0].reshape(4, 4)
    assert (np.ptp(square, axis=1) < 1e-6).all() and (np.diff(square[:, 0]) > 0).all()


@pytest.mark.parametrize(("theirs", "adapted"), [((32, 128), True), ((64, 64), False), (None, False)])
def test_equally_many_patches_may_lie_otherwise(theirs, adapted):
    model = registry.models.build("vit_tiny_patch16", output_size=3)
    params, state = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    tensors = mapping.tensors_of(params, state)
    fitted = mapping.fit(tensors, params, state, {}, size=(64, 64), their_size=theirs)
    assert fitted.adapted == (("position_embedding from 2x8 patches to 4x4 patches",) if adapted else ())
    assert same(fitted.params["position_embedding"], params["position_embedding"]) != adapted


def described(folder, **changes):
    """Changes what the config.json of a folder of weights says."""
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"architecture": "resnetblur18"},
            "for timm's resnetblur18, and this model is its resnet18: outputs may differ",
        ),
        ({"global_pool": "max"}, "with pooling 'max', and this model uses 'avg'"),
    ],
)
def test_weights_of_another_architecture_with_the_same_names_are_told(folder, changes, told):
    described(folder, **changes)
    with pytest.warns(UserWarning, match=told):
        jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32)


def test_a_workdir_of_another_variant_is_told(source):
    found = pretrained.open_weights(SMALL, str(source))
    assert pretrained._doubts(SMALL, found, "jaxvision") == []
    with pytest.raises(ValueError, match=rf"they are for --model={re.escape(repr(SMALL))}$"):
        jv.create_model("resnet18", output_size=3, init_from=str(source), image_size=32)
    (told,) = pretrained._doubts(SMALL, found._replace(spec="cnn(some=1)"), "jaxvision")
    assert told == "they were trained in cnn(some=1), which differs from this model"


@pytest.mark.parametrize(
    "content", ["[1]", "null", '{"mean": 1, "input_size": 32}', '{"mean": [0.5], "input_size": [3, 8, 8]}']
)
def test_a_config_that_makes_no_sense_is_told_in_one_line(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot read .* next to the weights"):
        files.read(str(folder))


def test_a_config_that_says_nothing_is_no_harm(folder):
    (folder / "config.json").write_text('{"pretrained_cfg": null}')
    assert files.read(str(folder)).preprocessing is None


def test_deviations_of_0_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    described(folder, pretrained_cfg={**config["pretrained_cfg"], "std": [0, 0, 0]})
    with pytest.raises(ValueError, match=r"std=.*expected 3 finite numbers.* from 1e-06"):
        files.read(str(folder))


@pytest.mark.parametrize(("name", "value"), [("layer1.0.conv1.weight", np.nan), ("bn1.running_var", -1.0)])
def test_broken_numbers_are_refused(folder, name, value):
    tensors = dict(safetensors.numpy.load_file(folder / "model.safetensors"))
    tensors[name] = np.full_like(tensors[name], value)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"are invalid \(not finite, or a negative variance\) in {name}"):
        jv.create_model("resnet18", output_size=3, init_from=str(folder), image_size=32)


def test_a_file_of_its_own_says_nothing_of_preprocessing(folder, tmp_path):
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "inception_v4", "label_names": ["x"]}')
    found = pretrained.open_weights("resnet18", str(tmp_path / "alone.safetensors"))
    assert found.classes is None and found.architecture is None
    assert pretrained.preprocessing_of("resnet18", found).mean == IMAGENET_MEAN
    assert pretrained.preprocessing_of("resnet20", found) is None  # which nobody trains on ImageNet
    config = CONFIG.replace(model="resnet18", steps=1, init_from=str(tmp_path / "alone.safetensors"), batch_size=4)
    dataset = (np.zeros((8, 16, 16, 3), np.uint8), np.arange(8) % 3)
    found = pretrained.open_weights(config.model, config.init_from)
    data = open_dataset(config, dataset=dataset)
    *_, said = training_setup._init_or_load(runs.build(config, data), data.train, found)
    assert "their preprocessing is unknown, so torchvision's for ImageNet is used" in said


def test_weights_are_never_written_over_other_things(source, tmp_path):
    run = jv.train(CONFIG.replace(model="resnet18", steps=1), workdir=tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    jv.export(run.workdir, tmp_path / "out")
    for place in (run.workdir, tmp_path / "out"):
        with pytest.raises(ValueError, match="is not empty, and nothing is overwritten"):
            jv.export(run.workdir, place)
    assert (tmp_path / "run" / "config.json").read_text() == before
    weights_mode, config_mode = (
        (tmp_path / "out" / name).stat().st_mode for name in ("model.safetensors", "config.json")
    )
    assert weights_mode == config_mode  # as the user's umask has it


def test_position_embeddings_are_resampled_as_images():
    smooth = np.linspace(0, 1, 4)[:, None] + np.linspace(0, 1, 4)[None]
    embedding = np.concatenate([np.full((1, 1, 1), 7.0), smooth.reshape(1, 16, 1)], axis=1)
    larger = mapping._other_size(embedding, (8, 4), None)
    assert larger.shape == (1, 33, 1) and larger[0, 0, 0] == 7.0
    rows = larger[0, 1:, 0].reshape(8, 4)
    assert (np.diff(rows, axis=0) > 0).all() and rows.mean() == pytest.approx(smooth.mean(), abs=1e-6)
