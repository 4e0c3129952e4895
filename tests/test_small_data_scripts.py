"""The scripts that measure training on few images: what they print by hand-made rows, and one small run."""

import json

import checkpoint_rules
import compare_finetuning
import numpy as np
import pytest
from conftest import make_photos

from jaxvision import data as datas
from jaxvision.cli.errors import run_command
from jaxvision.config import Config


def compare(*flags) -> int | None:
    return run_command(compare_finetuning.main, list(flags), compare_finetuning.NAME)


def row(part: str, seed: int, accuracy: float, **others) -> dict:
    key = {"part": part, "set": "clothing", "per_class": 10, "seed": seed, "image_size": 96}
    return {**key, "test": {"accuracy": accuracy, "loss": 1.0}, **others}


def test_the_table_has_mean_and_deviation_of_each_part(tmp_path, capsys):
    stages = {"probe": {"test": {"accuracy": 0.5}}, "finetuned": {"test": {"accuracy": 0.7}}}
    lines = [row("scratch", 0, 0.25), *(row("rival", seed, 0.6 + 0.2 * seed, seconds=60) for seed in (0, 1))]
    lines += [row("finetune", 0, 0.7, seconds=90, **stages)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert not compare(f"--out={path}", "--part=table")
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]]
    assert cells[:3] == ["clothing", "10", "96"]
    assert cells[3:9] == ["0.250 ± nan (1)", "", "0.500 ± nan (1)", "0.700 ± nan (1)", "0.700 ± nan (1)", cells[8]]
    assert cells[8] == "0.700 ± 0.141 (2)"  # of 0.6 and 0.8
    assert cells[9:] == ["1.500 ± nan (1)", "1.000 ± 0.000 (2)"]


def test_a_set_is_test_where_it_is_not_train(tmp_path):
    make_photos(tmp_path / "clothing" / "train")
    make_photos(tmp_path / "clothing" / "validation")
    make_photos(tmp_path / "clothing" / "extra")
    (tmp_path / "temporary").mkdir()
    place = compare_finetuning.Place(tmp_path, tmp_path / "temporary", 16)
    data = datas.open_dataset(Config(dataset=place.spec("clothing", 2), validation_fraction=0.0))
    whole = datas.open_dataset(Config(dataset=place.spec("clothing", None), validation_fraction=0.0))
    assert list(np.bincount(data.train.targets)) == [2] * len(data.classes)
    assert data.test is not None and len(data.test) == 2 * len(whole.train)  # validation and extra
    assert data.validation is None


def test_rows_of_the_file_are_not_computed_again(tmp_path, monkeypatch):
    asked = []

    def rival(place, name, per_class, seed):
        asked.append((name, per_class, seed))
        return {"test": {"accuracy": 1.0}, "seconds": 1.0}

    monkeypatch.setattr(compare_finetuning, "rival", rival)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("rival", 1, 0.5, seconds=60)) + "\n")
    wanted = ("--part=rival", "--sets=clothing", "--per_class=10", "--image_size=96", f"--out={path}")
    assert not compare(*wanted)
    assert asked == [("clothing", 10, 0), ("clothing", 10, 2)]
    assert not compare(*wanted)
    assert len(asked) == 2 and len(path.read_text().splitlines()) == 3


def test_a_part_that_there_is_not_is_refused(capsys):
    assert compare("--part=probes") == 2
    assert "probe" in capsys.readouterr().err


@pytest.mark.slow
def test_the_rules_choose_among_the_evaluations_of_one_training(monkeypatch):
    monkeypatch.setattr(checkpoint_rules, "EPOCHS", 4)
    line = checkpoint_rules.run("data", checkpoint_rules.SETTINGS["digits 10: cnn"], 0)
    raw = line["validation"][""]
    assert len(raw) == checkpoint_rules.NUM_EVALUATIONS
    assert set(line["test"]) == set(checkpoint_rules.RULES)
    assert line["sizes"]["train"] + line["sizes"]["validation"] == 100
    assert raw[-1][1] < raw[0][1]  # it learns
