"""Which model a candidate is compared with, and when it cannot be."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.bless.champion import Champion
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.pipeline import PipelineConfig

CONFIG = PipelineConfig.model_validate(
    {
        "name": "tiny",
        "features": {"x": {"dtype": "float32"}},
        "heads": {"y": {"task": "binary_classification", "classes": ("a", "b")}},
        "ingest": {"source": {"kind": "csv", "files": ("data.csv",)}},
    }
)


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "tiny")


def keep(layout: PipelineLayout, version: int, **changes: Any) -> None:
    manifest = PackageManifest(
        pipeline="tiny",
        version=version,
        created_at=datetime.now(UTC),
        digest="",
        inputs={name: InputSpec.of(feature) for name, feature in CONFIG.features.items()},
        heads=CONFIG.heads,
        serve=CONFIG.serve,
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )
    manifest.model_copy(update=changes).write(layout.version(version) / "package.json")


def test_without_a_serving_version_there_is_nothing_to_compare_with(layout: PipelineLayout) -> None:
    champion = Champion.find(layout, None, CONFIG)
    assert (champion.version, champion.model) == (None, None)
    assert "nothing to compare with" in champion.obstacle


def test_the_model_of_the_serving_version_is_found(layout: PipelineLayout) -> None:
    keep(layout, 4)
    champion = Champion.find(layout, 4, CONFIG)
    assert champion.model == layout.version(4) / "model"


def test_a_version_whose_package_is_gone_is_told(layout: PipelineLayout) -> None:
    champion = Champion.find(layout, 4, CONFIG)
    assert champion.version == 4
    assert champion.model is None
    assert "version 4 serves, but cannot be read" in champion.obstacle


def test_other_inputs_cannot_be_compared(layout: PipelineLayout) -> None:
    keep(layout, 1, inputs={"z": InputSpec(dtype="string")})
    champion = Champion.find(layout, 1, CONFIG)
    assert champion.model is None
    assert "version 1 cannot be compared with: its inputs differ (x, z)" in champion.obstacle


def test_other_classes_cannot_be_compared(layout: PipelineLayout) -> None:
    other = CONFIG.heads["y"].model_copy(update={"classes": ("b", "a")})
    keep(layout, 1, heads={"y": other})
    assert "its heads differ (y)" in Champion.find(layout, 1, CONFIG).obstacle
