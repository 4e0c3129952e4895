"""Where a command runs: closed streams, no home folder, names that are not text, devices that are not there, forks."""

import contextlib
import io
import os
import pwd
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from jaxvision import storage
from jaxvision.cli import environment, errors, run
from jaxvision.cli.command import commands
from jaxvision.config import Config
from jaxvision.data import fingerprint, open_dataset, splits_of
from jaxvision.distributed import mesh

CLOSED = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("environment", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.open_streams()
file = open(sys.argv[2], "w")
print("printed")
print("printed", file=sys.stderr, flush=True)
os.write(1, b"printed"), os.write(2, b"printed")
module.discard_output()
sys.exit(0 if file.fileno() > 2 else 1)
"""


def printed(function, monkeypatch, stream=None):
    """Run a function as a command; return its exit status and the lines on stderr."""
    error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", error)
    if stream is not None:
        monkeypatch.setattr(sys, "stdout", stream)
    status = errors.run_command(function, [], "work")
    error.flush()
    return status, error.buffer.getvalue().decode().splitlines()


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_replaced_before_a_file_takes_their_place(tmp_path, closing):
    words = [sys.executable, "-S", "-c", CLOSED, environment.__file__, tmp_path / "file"]
    done = subprocess.run(["bash", "-c", f'exec "$@" {closing}', "bash", *words], timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("absent", [True, False])
def test_a_command_runs_without_a_stream(monkeypatch, name, absent):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, name, None if absent else closed)
    assert errors.run_command(lambda _: print("a line", file=getattr(sys, name)), [], "work") == 0
    getattr(sys, name).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(monkeypatch):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        status, lines = printed(lambda _: print("x"), monkeypatch, full)
        assert status == 2 and lines == ["jaxvision: [Errno 28] No space left on device"]
        full.flush()  # what is printed later, as when Python exits, is dropped


def closed_pipe():
    """Return a stream whose reader has gone."""
    reader, number = os.pipe()
    os.close(reader)
    return os.fdopen(number, "w")


def test_training_goes_on_after_the_reader_of_its_output_has_gone(monkeypatch, photos, tmp_path):
    error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    words = [f"--dataset=folder(path={str(photos)!r}, image_size=8)", "--model=mlp(hidden=(4,))", "--batch_size=8"]
    with closed_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        monkeypatch.setattr(sys, "stderr", error)
        assert run("train", [*words, "--steps=2", f"--workdir={tmp_path / 'run'}"]) == 0
        assert sys.stdout is pipe and sys.stderr is error
    error.flush()
    assert error.buffer.getvalue().decode() == f"{environment.NO_READER}\n"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "report" / "report.json").exists()


def test_a_command_whose_product_is_its_output_ends_without_a_reader(monkeypatch):
    assert [name for name, each in commands().items() if each.prints] == ["predict", "list"]
    with closed_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run("list", []) == 141


def test_a_warning_is_printed_once_a_command(monkeypatch):
    def work(_):
        for number in (1, 1, 2):
            with warnings.catch_warnings():  # after which Python repeats what it has shown
                pass
            warnings.warn(f"file {number}", stacklevel=1)

    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert printed(work, monkeypatch) == (0, ["jaxvision: warning: file 1", "jaxvision: warning: file 2"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_csv_is_utf8_on_every_terminal(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert printed(lambda _: print("Grün,日本,caf\udce9", file=environment.utf8_output()), monkeypatch, stream) == (
        0,
        [],
    )
    assert stream.buffer.getvalue() == "Grün,日本,caf".encode() + b"\xe9\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_message_that_cannot_be_written_leaves_the_status(monkeypatch):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert run("predict", ["--workdir=nothing/here", "a.jpg"]) == 2
        full.flush()


@pytest.mark.parametrize(
    ("encoding", "name", "expected"),
    [
        ("ascii", "café", b"caf\\xe9\n"),
        ("latin-1", "café", b"caf\xe9\n"),
        ("utf-8", "caf\udce9", b"caf\\udce9\n"),
        ("cp1252", "日本", b"\\u65e5\\u672c\n"),
    ],
)
def test_every_name_can_be_printed(monkeypatch, encoding, name, expected):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert printed(lambda _: print(name), monkeypatch, stream) == (0, [])
    assert stream.buffer.getvalue() == expected


def test_without_a_home_the_cache_is_a_private_folder(monkeypatch):
    def no_entry(_):
        raise KeyError

    for variable in ("HOME", "JAXVISION_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.warns(UserWarning, match="there is no home folder, so caches are in '.*' for this run only: set HOME"):
        folder = storage.cache_folder()
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
    assert storage.cache_folder() == folder
    monkeypatch.setenv("JAXVISION_CACHE", "there")
    assert storage.cache_folder() == Path("there")


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("evaluate", ["--workdir=~nobody_here/x"]),
        ("predict", ["--workdir=~nobody_here/x", "a.png"]),
        ("train", ["--dataset=folder(path='~nobody_here/x')"]),
        ("train", ["--dataset=digits", "--init_from=~nobody_here/x.pth"]),
        ("train", ["--dataset=digits", "--workdir=~nobody_here/x"]),
        ("dataset_report", ["--dataset=digits", "--out=~nobody_here/x"]),
    ],
)
def test_the_home_of_nobody_is_one_line(capsys, command, argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(command, argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "~nobody_here/x" in line
    assert not list(tmp_path.glob("~*"))


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_devices_that_are_not_there_are_one_line(monkeypatch, platform):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    status, lines = printed(lambda _: jax.devices(platform), monkeypatch)
    assert status == 2 and len(lines) == 1
    assert lines[0].startswith(f"jaxvision: JAX cannot use JAX_PLATFORMS={platform!r} on this machine")
    assert "unset JAX_PLATFORMS" in lines[0]


@pytest.mark.parametrize("name", ["-1.jpg", "--x.jpg", "-x=2.jpg"])
def test_a_file_that_begins_with_a_dash_is_no_flag(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    argv = ["--workdir=nothing", name]
    assert run("predict", argv) == 2
    assert "unknown flag" in capsys.readouterr().err
    (tmp_path / name).touch()
    for argv in (["--workdir=nothing", name], ["--workdir=nothing", "--", name]):
        assert run("predict", argv) == 2
        assert "no folder 'nothing'" in capsys.readouterr().err


def test_a_flag_stays_one_though_a_file_has_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--top=0").touch()
    assert run("predict", ["--workdir=nothing", "a.jpg", "--top=0"]) == 2
    assert "--top=0 must be at least 1" in capsys.readouterr().err


def test_names_that_are_not_text_are_read(photos):
    os.rename(os.fsencode(photos / "dark" / "0.png"), os.fsencode(photos / "dark") + b"/caf\xe9.png")
    data = open_dataset(Config(dataset=f"folder(path={str(photos)!r}, image_size=8)"))
    names = [name for split in splits_of(data).values() for name in split.names]
    assert sum("caf\udce9" in name for name in names) == 1
    assert fingerprint(data)


def test_names_that_are_not_text_are_written(tmp_path):
    storage.write_text(tmp_path / "page.html", "<p>caf\udce9, café")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<p>caf\\udce9, café"
    storage.write_json(tmp_path / "names.json", {"name": "caf\udce9"})
    assert storage.read_json(tmp_path / "names.json") == {"name": "caf\udce9"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_raises_instead_of_waiting_forever():
    device_mesh = mesh.make_mesh()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's own, at the fork
        child = os.fork()
    if child == 0:
        status = 0
        for use in (mesh.make_mesh, lambda: mesh.put_batch({}, device_mesh)):
            try:
                use()
                status = 1
            except RuntimeError as error:
                status |= "was forked after JAX started" not in str(error)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mesh.make_mesh().size == device_mesh.size
