"""What is refused before anything of a trial is touched."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.deploy.imported import deploy_imported
from contract.errors import UserError
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest, Provenance
from contract.schema.imported import DeployingConfig
from contract.schema.serving import ServeConfig


def test_a_version_that_a_run_made_is_left_to_that_run(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "digits")
    PackageManifest(
        pipeline="digits",
        version=3,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id="nightly", git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(3))
    record = layout.run("nightly").result("canary")
    record.parent.mkdir(parents=True)
    record.write_text("of the run")
    with pytest.raises(
        UserError, match="made by run 'nightly' of a pipeline, .* promote digits --v"
    ):
        deploy_imported(layout, 3, DeployingConfig(), "http://127.0.0.1:9", "no-token")
    assert record.read_text() == "of the run"
