"""Whether the comparison of killed commands finds another result, a partial export and what a killed run left."""

import json
from pathlib import Path

import crash_commands as crash
import pytest


def write(folder: Path, content: dict[str, object]):
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))


def test_times_do_not_count_and_anything_else_does(tmp_path):
    scenario = crash.scenarios(tmp_path)["sweep"]
    write(tmp_path, {"swept/sweep.json": {"trials": [{"value": 0.5, "seconds": 3.0}], "digest": "a"}})
    wanted = scenario.result(tmp_path)
    write(tmp_path, {"swept/sweep.json": {"trials": [{"value": 0.5, "seconds": 4.0}], "digest": "b"}})
    crash._compare(scenario, tmp_path, "sweep", wanted)
    write(tmp_path, {"swept/sweep.json": {"trials": [{"value": 0.6, "seconds": 3.0}], "digest": "a"}})
    with pytest.raises(crash.Failure, match=r"sweep, killed, left another result: sweep.json differ"):
        crash._compare(scenario, tmp_path, "sweep", wanted)


def test_a_partial_export_and_a_leftover_of_the_cache_are_found(tmp_path):
    export = crash.scenarios(tmp_path)["export"]
    export.check(tmp_path, {})  # nothing was written yet
    write(tmp_path, {"exported/config.json": {"a": 1}, "exported/model.safetensors": 0})
    whole = export.result(tmp_path)
    export.check(tmp_path, whole)
    (tmp_path / "exported" / "model.safetensors").unlink()
    with pytest.raises(crash.Failure, match="a killed export left a partial folder"):
        export.check(tmp_path, whole)
    cache = crash.scenarios(tmp_path)["cache"]
    write(tmp_path, {"cache/arrays/folder-1/images.npy": 1})
    wanted = cache.result(tmp_path)
    write(tmp_path, {"cache/arrays/.folder-x/images.npy": 1})
    with pytest.raises(crash.Failure, match="cache, killed, left another result"):
        crash._compare(cache, tmp_path, "cache", wanted)
