"""A few seconds of fuzzing for each kind of input; `python scripts/fuzz.py --minutes=60` does more."""

import pickle
import re
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from fuzz_guard import Failure, check
from fuzz_targets import HOSTILE, targets
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


@pytest.mark.slow
def test_ten_thousand_hostile_pickles_of_both_formats_run_nothing(tmp_path, capsys):
    import fuzz

    assert fuzz.main(["--targets=pickles", "--cases=10000", "--minutes=0", f"--corpus={tmp_path}"]) == 0
    cases = re.search(r"pickles +([\d,]+) cases +([\d,]+) accepted +([\d,]+) refused", capsys.readouterr().out)
    assert cases is not None
    number, accepted, refused = (int(text.replace(",", "")) for text in cases.groups())
    assert number >= 10_000 and accepted > 100 and refused > 1_000


def test_a_reader_that_runs_pickles_is_a_failure():
    with pytest.raises(Failure, match=r"it calls pickle\.find_class"):
        check(pickle.loads, HOSTILE[0] + b".")
