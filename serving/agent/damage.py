"""Whether a server does not run because its package was changed on storage."""

from collections.abc import Callable

from contract.errors import SlipwayError
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.storage import digest_directory
from serving.traffic.backend import Version


class PackageDamage:
    """Says what is wrong with the packages of servers that do not run.

    To know it, a whole model is read from storage: once for each problem, not in every pass.
    """

    def __init__(self, layout: Callable[[str], PipelineLayout]) -> None:
        self._layout = layout
        self._found: dict[Version, tuple[str, str]] = {}  # the problem, and what was found by it

    def words(self, version: Version, problem: str) -> str:
        """Return a clause on a damaged package; empty if it is whole, or there is no problem.

        Args:
            problem: Why the version's server does not run; empty if it does.
        """
        if not problem:
            self._found.pop(version, None)
            return ""
        known, words = self._found.get(version, ("", ""))
        if known != problem:
            words = self._read(version)
            self._found[version] = (problem, words)
        return words

    def _read(self, version: Version) -> str:
        layout = self._layout(version[0])
        try:
            manifest = PackageManifest.read(layout.package_manifest(version[1]))
            found = digest_directory(layout.version(version[1]) / manifest.model)
        except (SlipwayError, OSError) as error:
            return f"its package cannot be read ({error}); "
        if found == manifest.digest:
            return ""
        return f"its package was changed on storage ({found}, expected {manifest.digest}); "
