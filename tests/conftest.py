"""Four fake devices, strict JAX, a compilation cache that persists, and a temporary data cache."""

import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "jaxvision-test-xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "allow")  # third-party code promotes; ours is checked in test_step

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
WITH_PAGES = ("test_page", "test_dataset_report", "test_evaluate", "test_gan", "test_time_series", "test_experiments")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True, scope="module")
def _few_pages(request):
    """Write the page of a report only in modules that look at reports: it compiles two programs for each run."""
    if request.node.path.stem in WITH_PAGES:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxvision.reports.files.save_page", lambda *args, **options: None)
        yield


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the checkout; its tests skip where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("there is no ../shared/data beside the checkout")
    return SHARED


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB; its tests skip where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], capture_output=True, check=False)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of tiny image files that a network can tell apart, without splits."""
    return make_photos(tmp_path / "photos")


def make_photos(place: Path, *, num_images: int = 20) -> Path:
    """Writes them into a folder, which it gives."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        folder = place / name
        folder.mkdir(parents=True)
        for index in range(num_images):
            pixels = rng.normal(level, 30, (24, 30, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return place
