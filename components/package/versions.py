"""Version numbers, and which versions are kept."""

from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.storage import Attempt


def next_version(layout: PipelineLayout) -> int:
    """Take the next number. Numbers of packages that failed or were removed are not used again."""
    while True:
        number = Attempt.claim(layout.version_numbers).number
        if not layout.version(number).exists():
            return number


def kept_before(layout: PipelineLayout, manifest: PackageManifest) -> int | None:
    """Return the version that an earlier attempt of the same run kept, if it is the same."""
    for number in reversed(layout.kept_versions()):
        other = PackageManifest.read(layout.package_manifest(number))
        is_of_run = other.provenance.run_id == manifest.provenance.run_id
        is_same = (other.digest, other.engine.digest) == (manifest.digest, manifest.engine.digest)
        if is_of_run and is_same and other.serve == manifest.serve:
            return number
    return None
