"""Loggers: rows reach those that a run names, and a missing package is named before training."""

import json

import pytest

import jaxvision as jv
from jaxvision import registry

CONFIG = jv.Config(
    dataset="synthetic(num_examples=80, image_size=8)", model="mlp(hidden=(4,))", batch_size=8, steps=4, eval_every=2
)
PLUGIN = """
import json
import jaxvision as jv

@jv.loggers.register("lines")
def lines(*, folder, start, name="lines.txt"):
    \"\"\"Write the rows into a file.\"\"\"
    file = (folder / name).open("a")
    file.write(f"from {start}\\\\n")
    return jv.loggers.Logger(lambda row: file.write(json.dumps(row) + "\\\\n"), file.close)
""".replace("\\\\n", "\\n")


def trained(tmp_path, loggers, **options):
    return jv.train(CONFIG, execution=jv.Execution(loggers=loggers), workdir=tmp_path / "run", **options)


@pytest.fixture
def plugin(tmp_path):
    registry.loggers.names()  # loads those of the package
    before = dict(registry.loggers._entries)
    (tmp_path / "mine.py").write_text(PLUGIN)
    yield str(tmp_path / "mine.py")
    registry.loggers._entries.clear()
    registry.loggers._entries.update(before)


def test_a_logger_of_a_plug_in_gets_each_row_once(tmp_path, plugin):
    result = trained(tmp_path, "lines(name='rows.txt')", plugins=[plugin])
    first, *rows = (result.workdir / "rows.txt").read_text().splitlines()
    assert first == "from 0"
    assert [json.loads(row) for row in rows] == result.history
    assert not (result.workdir / "tensorboard").exists()  # named loggers replace it


def test_a_resumed_run_may_log_elsewhere(tmp_path, plugin):
    jv.train(CONFIG.replace(steps=2), workdir=tmp_path / "run")
    result = trained(tmp_path, "lines", plugins=[plugin])
    first, *rows = (result.workdir / "lines.txt").read_text().splitlines()
    assert first == "from 2" and {json.loads(row)["step"] for row in rows} == {4}


FAILING = """
import jaxvision as jv

@jv.loggers.register("failing")
def failing(*, folder, start, when="open"):
    \"\"\"Raise an error.\"\"\"
    def fail(of, *arguments):
        if of == when:
            raise RuntimeError("no connection")
    fail("open")
    return jv.loggers.Logger(lambda row: fail("report", row), lambda: fail("close"))
"""


@pytest.mark.parametrize("when", ["report", "close"])
def test_a_logger_that_fails_costs_nothing(tmp_path, plugin, when):
    (tmp_path / "failing.py").write_text(FAILING)
    with pytest.warns(
        UserWarning, match="the logger 'failing' failed, and the run goes on without it: .*no connection"
    ):
        result = trained(tmp_path, f"failing(when='{when}'), lines", plugins=[str(tmp_path / "failing.py"), plugin])
    assert result.test is not None
    assert len((result.workdir / "lines.txt").read_text().splitlines()) == 1 + len(result.history)


def test_a_logger_that_does_not_open_ends_the_run_in_one_line(tmp_path, plugin):
    (tmp_path / "failing.py").write_text(FAILING)
    with pytest.raises(ValueError, match="cannot open the logger 'failing': RuntimeError: no connection"):
        trained(tmp_path, "failing", plugins=[str(tmp_path / "failing.py")])
    assert trained(tmp_path, "lines", plugins=[plugin]).test is not None  # goes on from the first evaluation


def test_a_missing_package_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package wandb: pip install -e '\.\[wandb\]'"):
        trained(tmp_path, "wandb")
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown logger 'tensorbord'.*tensorboard"):
        trained(tmp_path, "tensorbord")
    with pytest.raises(ValueError, match="verbose"):
        trained(tmp_path, "tensorboard(verbose=True)")


def test_mlflow_gets_settings_and_metrics_and_goes_on_under_one_id(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "store").as_uri()
    spec = f"mlflow(experiment='photos', tracking_uri={store!r})"
    jv.train(CONFIG.replace(steps=2), execution=jv.Execution(loggers=spec), workdir=tmp_path / "run")
    result = trained(tmp_path, spec)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("photos")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["model"] == CONFIG.model
    logged = client.get_metric_history(run.info.run_id, "validation/accuracy")
    wanted = [(row["step"], row["accuracy"]) for row in result.history if row["split"] == "validation"]
    assert sorted((metric.step, metric.value) for metric in logged) == wanted


SPEC = "wandb(project='photos', mode='offline')"


def test_wandb_gets_the_rows_offline(tmp_path, monkeypatch):
    client = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    result = trained(tmp_path, SPEC)
    assert client.run is None  # finished
    assert jv.evaluate(result.workdir)["accuracy"] >= 0
    jv.train(CONFIG.replace(steps=6), execution=jv.Execution(loggers=SPEC), workdir=result.workdir)
    assert (result.workdir / "wandb_id.txt").read_text().strip()
    events = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    content = events[0].read_bytes()
    assert b"validation/accuracy" in content and b"mlp(hidden=(4,))" in content
