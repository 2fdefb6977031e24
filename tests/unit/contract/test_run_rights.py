"""A right to start runs does not allow other files, commands or lower thresholds."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.errors import ConfigError
from contract.run_rights import check_overrides, check_sources, is_allowed
from contract.schema.pipeline import PipelineConfig
from contract.schema.rights import RunsConfig, SourcesConfig

DEFAULT = RunsConfig().overrides


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.steps": 5, "train.hyperparameters.units": 16, "evaluate.batch_size": 64},
        {"train": {"steps": 5, "hyperparameters": {"units": [16, 8]}}},
        {"evaluate.early_stop": {"patience": 3}},
        {},
    ],
)
def test_training_evaluation_and_hyperparameters_may_be_overridden(
    overrides: dict[str, Any],
) -> None:
    check_overrides(overrides, DEFAULT)


ATTACKS = {
    "ingest.source": {"kind": "csv", "files": ["/etc/shadow"]},
    "ingest.source.files": ["http://169.254.169.254/latest/meta-data"],
    "ingest.beam.options": ["--environment_type=PROCESS"],
    "transform.beam": {"runner": "PortableRunner"},
    "bless.thresholds": {},
    "bless": {"margin": 1.0},
    "deploy.alpha": 0.4,
    "deploy": {"refused_error_ratio": 1.0},
    "package.loadtest.max_error_ratio": 1.0,
    "serve.cors_origins": ["*"],
    "notify.webhook_connection": "theirs",
    "features.age.dtype": "string",
    "evaluate.queue_uri": "s3://theirs/queue",
    "evaluate": {"queue_uri": "s3://theirs/queue"},
    "training.steps": 5,
    "name": "other",
    "optimize.runtimes.tolerance": 9.0,
    "": 1,
}


@pytest.mark.parametrize("key", ATTACKS)
def test_what_is_not_listed_is_refused_by_its_whole_key(key: str) -> None:
    with pytest.raises(ConfigError, match=r"may not change it \(allowed: train, evaluate\)"):
        check_overrides({key: ATTACKS[key]}, DEFAULT)


def test_all_refused_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        check_overrides({"train.steps": 5, "bless.margin": 1.0, "deploy": {"alpha": 0.4}}, DEFAULT)
    keys = [re.split(": ", problem)[1] for problem in refusal.value.problems]
    assert keys == ["bless.margin", "deploy.alpha"]


@pytest.mark.parametrize(
    ("key", "allowed", "may"),
    [
        ("serve.fault_ratio", ("serve.fault_ratio",), True),
        ("serve.fault_ratios", ("serve.fault_ratio",), False),
        ("evaluate.queue_uri", ("evaluate",), False),
        ("evaluate.queue_uri", ("evaluate.queue_uri",), True),
        ("deploy.alpha", ("deploy",), True),
        ("train", ("train",), True),  # an empty section
        ("train.steps", (), False),
    ],
)
def test_an_entry_is_a_section_or_one_key(key: str, allowed: Sequence[str], may: bool) -> None:
    assert is_allowed(key, allowed) is may


# --- sources --------------------------------------------------------------------------------------


def reading(path: str) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "wine",
            "features": {"x": {"dtype": "float32"}},
            "heads": {"label": {"task": "regression"}},
            "ingest": {"source": {"kind": "csv", "files": (path,)}},
        }
    )


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "ftp://inside/rows.csv",
        "zip://rows.csv::http://inside/a.zip",
        "simplecache::https://inside/rows.csv",
        "memory://rows.csv",
        "HTTP://inside/rows.csv",
    ],
)
def test_a_scheme_that_is_not_listed_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ingest\.source: .*scheme '.*' is not allowed"):
        check_sources(reading(uri), tmp_path, SourcesConfig())


@pytest.mark.parametrize("uri", ["s3://bucket/a-*.csv", "/data/rows.csv", "file:///data/rows.csv"])
def test_usual_places_are_allowed_unless_roots_are_given(uri: str, tmp_path: Path) -> None:
    check_sources(reading(uri), tmp_path, SourcesConfig())


def test_with_roots_only_files_below_them_are_read(tmp_path: Path) -> None:
    own, data, other = (tmp_path / name for name in ("pipeline", "data", "other"))
    for folder in (own, data, other):
        folder.mkdir()
        (folder / "rows.csv").write_text("x\n", encoding="utf-8")
    (data / "link.csv").symlink_to(other / "rows.csv")
    allowed = SourcesConfig(roots=(str(data),))
    path: Path | str
    for path in (data / "rows.csv", data / "*", own / "rows.csv", data / "later-*.csv"):
        if path != data / "*":
            check_sources(reading(str(path)), own, allowed)
    for path in (
        other / "rows.csv",
        data / "link.csv",
        data / "*.csv",
        data / ".." / "other" / "rows.csv",
        f"file://{other}/rows.csv",
        tmp_path / "data2" / "none.csv",
    ):
        with pytest.raises(ConfigError, match=r"is outside of .*data \(sources\.roots"):
            check_sources(reading(str(path)), own, allowed)
