"""A package that was changed on storage is named; the model is read once for each problem."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.pipeline import PipelineConfig
from contract.storage import digest_directory
from serving.agent.damage import PackageDamage

CONFIG = PipelineConfig.model_validate(
    {
        "name": "tiny",
        "features": {"x": {"dtype": "float32"}},
        "heads": {"y": {"task": "binary_classification", "classes": ("a", "b")}},
        "ingest": {"source": {"kind": "csv", "files": ("data.csv",)}},
    }
)
TINY = ("tiny", 4)
ENDS, AGAIN = "ended with exit code 3", "ended with exit code 4"


@pytest.fixture
def damage(tmp_path: Path) -> PackageDamage:
    return PackageDamage(partial(PipelineLayout, tmp_path))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A package whose model is as it was packaged; its one file."""
    folder = PipelineLayout(tmp_path, "tiny").version(4)
    weights = folder / "model" / "weights"
    weights.parent.mkdir(parents=True)
    weights.write_text("0.5")
    manifest = PackageManifest(
        pipeline="tiny",
        version=4,
        created_at=datetime.now(UTC),
        digest=digest_directory(weights.parent),
        inputs={name: InputSpec.of(feature) for name, feature in CONFIG.features.items()},
        heads=CONFIG.heads,
        serve=CONFIG.serve,
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )
    manifest.write(folder / "package.json")
    return weights


def test_a_model_that_was_changed_is_told_and_a_whole_one_is_not(
    damage: PackageDamage, model: Path
) -> None:
    assert damage.words(TINY, ENDS) == ""
    model.write_text("0.6")
    assert damage.words(TINY, AGAIN).startswith("its package was changed on storage (sha256:")
    assert damage.words(TINY, "") == "", "its server runs"


def test_a_package_that_is_gone_cannot_be_read(damage: PackageDamage) -> None:
    assert damage.words(TINY, ENDS).startswith("its package cannot be read (")


def test_the_model_is_read_once_for_each_problem(damage: PackageDamage, model: Path) -> None:
    assert damage.words(TINY, ENDS) == ""
    model.write_text("0.6")
    assert damage.words(TINY, ENDS) == "", "the same problem: not read again"
    assert damage.words(("tiny", 5), ENDS) != "", "another version's"
    damage.words(TINY, "")
    assert "changed on storage" in damage.words(TINY, ENDS), "it ran, and has the problem again"
