"""Metrics are those of other libraries."""

import importlib.util

import numerics_metrics
import pytest


def test_metrics_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(numerics_metrics, "NUM_SEEDS", 2)
    rows = numerics_metrics.scikit_learn()
    assert len(rows) == 5 and all(row.difference < 1e-6 for row in rows), rows


@pytest.mark.slow
@pytest.mark.parametrize(("library", "compare"), [("torch", "pytorch"), ("torchmetrics", "torch_metrics")])
@pytest.mark.filterwarnings("ignore")
def test_metrics_are_those_of_pytorch(library, compare):
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed")
    rows = getattr(numerics_metrics, compare)()
    assert rows and all(row.difference < 2e-6 for row in rows), rows
