"""Old config keys are read under their new names, and a message names the new key."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.layout import RunLayout
from contract.loader import freeze_pipeline, load_frozen, load_pipeline
from contract.schema.optimize import OptimizeConfig
from contract.schema.pipeline import PipelineConfig
from contract.schema.renamed_keys import RENAMED_KEYS, deprecations, new_key, with_new_keys

FROZEN_BY_0_1_0 = Path(__file__).parent / "stored_0_1_0" / "frozen_pipeline" / "resolved.json"
FROZEN_WITH_OLD_KEYS = Path(__file__).parent / "stored_old_keys" / "resolved.json"
YAML = """\
name: houses
features: {size: {dtype: float32}}
heads: {price: {task: regression}}
ingest: {source: {kind: csv, files: [a.csv]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "houses"
    folder.mkdir()
    return folder


def write(folder: Path, *lines: str) -> Path:
    (folder / "pipeline.yaml").write_text(YAML + "\n".join(lines) + "\n")
    return folder


def test_an_old_key_is_read_and_the_message_names_the_new_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "optimize: {runtimes: {min_speedup: 3.0}}")
    with caplog.at_level(logging.WARNING):
        config = load_pipeline(folder)
    assert config.optimize.engines.min_speedup == 3.0
    assert caplog.messages == [
        "houses/pipeline.yaml: optimize.runtimes: deprecated name; write 'optimize.engines' instead"
    ]


def test_a_new_key_brings_no_message(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, "optimize: {engines: {min_speedup: 3.0}}")
    with caplog.at_level(logging.WARNING):
        assert load_pipeline(folder).optimize.engines.min_speedup == 3.0
    assert caplog.messages == []


@pytest.mark.parametrize("file_key", ["runtimes", "engines"])
@pytest.mark.parametrize("override_key", ["runtimes", "engines"])
def test_overrides_meet_the_file_under_either_name(
    folder: Path, file_key: str, override_key: str
) -> None:
    write(folder, f"optimize: {{{file_key}: {{min_speedup: 3.0, tolerance: 0.5}}}}")
    config = load_pipeline(folder, {f"optimize.{override_key}.tolerance": 0.25})
    assert config.optimize.engines.min_speedup == 3.0
    assert config.optimize.engines.tolerance == 0.25


def test_an_old_key_in_an_override_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder)
    with caplog.at_level(logging.WARNING):
        load_pipeline(folder, {"optimize.runtimes.tolerance": 0.25})
    assert caplog.messages == [
        "optimize.runtimes.tolerance: deprecated name; write 'optimize.engines.tolerance' instead"
    ]


def test_both_names_at_once_are_refused(folder: Path) -> None:
    write(folder, "optimize: {runtimes: {}, engines: {}}")
    with pytest.raises(
        ConfigError,
        match="houses/pipeline.yaml: optimize.runtimes: deprecated name of 'optimize.engines', "
        "which is there too; remove it",
    ):
        load_pipeline(folder)


def stored(resolved: Path, tmp_path: Path) -> RunLayout:
    run = RunLayout(tmp_path, "digits", "r1")
    run.frozen_pipeline.mkdir(parents=True)
    shutil.copy(resolved, run.frozen_pipeline)
    return run


def test_a_pipeline_frozen_by_0_1_0_still_loads(tmp_path: Path) -> None:
    config = load_frozen(stored(FROZEN_BY_0_1_0, tmp_path))
    assert config.name == "digits"
    assert config.bless.margin == 0.02  # an override of that run


def test_a_pipeline_frozen_with_old_keys_still_loads(tmp_path: Path) -> None:
    old = json.loads(FROZEN_WITH_OLD_KEYS.read_text())["optimize"]["runtimes"]
    assert old["min_speedup"] == 1.5  # not the default
    config = load_frozen(stored(FROZEN_WITH_OLD_KEYS, tmp_path))
    assert config.optimize.engines.model_dump(mode="json") == old


def test_a_run_frozen_under_old_keys_continues_with_the_same_overrides(
    folder: Path, tmp_path: Path
) -> None:
    run = RunLayout(tmp_path / "root", "houses", "r1")
    write(folder)
    overrides = {"optimize.runtimes.min_speedup": 3.0}
    frozen = freeze_pipeline(folder, run, overrides) / "resolved.json"
    config = json.loads(frozen.read_text())
    config["optimize"]["runtimes"] = config["optimize"].pop("engines")
    frozen.write_text(json.dumps(config))

    freeze_pipeline(folder, run, overrides)

    with pytest.raises(ConfigError, match="another optimize.engines.min_speedup; start a new run"):
        freeze_pipeline(folder, run, {"optimize.runtimes.min_speedup": 4.0})


@pytest.mark.parametrize("raw", [None, [], {"optimize": None}, {"optimize": []}, {"train": {}}])
def test_what_has_no_old_key_stays_as_it_is(raw: object) -> None:
    assert with_new_keys(raw) == raw
    assert list(deprecations(raw)) == []


def test_a_key_that_begins_like_an_old_one_keeps_its_name() -> None:
    assert new_key("optimize.runtimes_of_old") == "optimize.runtimes_of_old"


def test_every_new_key_is_there_and_no_old_one() -> None:
    assert RENAMED_KEYS == {"optimize.runtimes": "optimize.engines"}
    assert PipelineConfig.model_fields["optimize"].annotation is OptimizeConfig
    assert "engines" in OptimizeConfig.model_fields
    assert "runtimes" not in OptimizeConfig.model_fields
