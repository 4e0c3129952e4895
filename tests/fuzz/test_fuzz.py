"""A few seconds of fuzzing for each kind of input; `python scripts/fuzz.py --minutes=60` does more."""

from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from fuzz_guard import Failure, check
from fuzz_targets import targets
from hypothesis import HealthCheck, Phase, given, settings

CORPUS = Path(__file__).parent / "corpus"
ALL = targets()
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_damaged_input_is_read_or_refused(target):
    @settings(settings.get_profile("ci"))
    @given(target.inputs)
    def case(content):
        check(target.read, content)

    case()


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*/*")), ids=lambda file: f"{file.parent.name}-{file.name[:12]}")
def test_inputs_that_once_failed_are_read_or_refused(file):
    (target,) = (target for target in ALL if target.name == file.parent.name)
    check(target.read, file.read_bytes())


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (lambda _: __import__("os").system("true"), "it calls os.system"),
        (lambda _: __import__("subprocess").run(["true"], check=False), "it calls subprocess.Popen"),
        (lambda _: __import__("socket").create_connection(("127.0.0.1", 9)), "it calls socket"),
        (lambda _: int("x"), "ValueError: invalid literal"),
        (lambda _: [][0], "IndexError"),
    ],
)
def test_what_a_reader_must_not_do_is_a_failure(read, why):
    with pytest.raises(Failure, match=why):
        check(read, b"")
