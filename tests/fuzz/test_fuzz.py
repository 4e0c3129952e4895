"""A few seconds of fuzzing for each kind of input; `python scripts/fuzz.py --minutes=60` does more."""

from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from fuzz_guard import Failure, check
from fuzz_targets import targets
from hypothesis import HealthCheck, Phase, given, settings

KNOWN = {  # targets whose reader still has faults: what is seen
    "specs": "RecursionError for a spec that is nested too deeply",
    "tables": "csv.Error for a field beyond the limit of the csv module",
    "workdirs": "UnicodeDecodeError for a metrics.jsonl that is not UTF-8",
    "npz": "tokenize.TokenError for a damaged header of an array",
}
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


def marked(target):
    """Return a target as a parameter, expected to fail if its reader has known faults."""
    marks = [pytest.mark.xfail(reason=KNOWN[target.name], strict=False)] if target.name in KNOWN else []
    return pytest.param(target, id=target.name, marks=marks)


@pytest.mark.parametrize("target", [marked(target) for target in ALL])
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
