"""The model that is serving now, as something to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.runs.champions import best_before, recorded_metrics
from contract.errors import SlipwayError
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest
from contract.schema.pipeline import PipelineConfig


@dataclass(frozen=True)
class Champion:
    """The version that is serving, and its model, unless it cannot be compared with.

    Attributes:
        version: Its number; None where nothing is serving.
        model: Its SavedModel, or None.
        obstacle: Why there is no model to compare with, as a message.
        recorded: What was measured of it on the test split of its own run, by metric; it counts
            where its model cannot answer this run's rows.
        best: The best kept champion before it by the metric that decides, if that is another one.
    """

    version: int | None
    model: Path | None
    obstacle: str = ""
    recorded: Mapping[str, float] = field(default_factory=dict)
    best: "Champion | None" = None

    @classmethod
    def find(
        cls, layout: PipelineLayout, version: int | None, config: PipelineConfig
    ) -> "Champion":
        """Look up what serves as `version`; whatever is wrong with it is told, not raised."""
        if version is None:
            return cls(None, None, "nothing to compare with: no version is in service")
        try:
            manifest = PackageManifest.read(layout.package_manifest(version))
        except SlipwayError as error:
            return cls(version, None, f"version {version} serves, but cannot be read: {error}")
        found = cls._of(layout, manifest, config)
        best = best_before(layout, manifest, config)
        return replace(found, best=None if best is None else cls._of(layout, best, config))

    @classmethod
    def _of(
        cls, layout: PipelineLayout, manifest: PackageManifest, config: PipelineConfig
    ) -> "Champion":
        version, why = manifest.version, f"version {manifest.version} cannot be compared with: "
        theirs = {name: (head.task, head.classes) for name, head in manifest.heads.items()}
        ours = {name: (head.task, head.classes) for name, head in config.heads.items()}
        if differing := _differing(theirs, ours):
            return cls(version, None, f"{why}its heads differ ({', '.join(differing)})")
        inputs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
        recorded = recorded_metrics(manifest, config)
        if differing := _differing(manifest.inputs, inputs):
            return cls(version, None, f"{why}its inputs differ ({', '.join(differing)})", recorded)
        return cls(version, layout.version(version) / manifest.model, recorded=recorded)


def _differing(theirs: Mapping[str, object], ours: Mapping[str, object]) -> list[str]:
    return sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
