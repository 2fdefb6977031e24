"""The model that is serving now, as something to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
        obstacle: Why there is no model to compare with, in words.
    """

    version: int | None
    model: Path | None
    obstacle: str = ""

    @classmethod
    def find(
        cls, layout: PipelineLayout, version: int | None, config: PipelineConfig
    ) -> "Champion":
        """Look up what serves as `version`; whatever is wrong with it is told, not raised."""
        if version is None:
            return cls(None, None, "nothing to compare with: no version is serving")
        folder = layout.version(version)
        try:
            manifest = PackageManifest.read(folder / "package.json")
        except SlipwayError as error:
            return cls(version, None, f"version {version} serves, but cannot be read: {error}")
        if difference := _difference(manifest, config):
            return cls(version, None, f"version {version} cannot be compared with: {difference}")
        return cls(version, folder / manifest.model)


def _difference(manifest: PackageManifest, config: PipelineConfig) -> str:
    """Say in what a package's inputs or heads are not the config's; empty if they are."""
    inputs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    if differing := _differing(manifest.inputs, inputs):
        return f"its inputs differ ({', '.join(differing)})"
    theirs = {name: (head.task, head.classes) for name, head in manifest.heads.items()}
    ours = {name: (head.task, head.classes) for name, head in config.heads.items()}
    if differing := _differing(theirs, ours):
        return f"its heads differ ({', '.join(differing)})"
    return ""


def _differing(theirs: Mapping[str, object], ours: Mapping[str, object]) -> list[str]:
    return sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
