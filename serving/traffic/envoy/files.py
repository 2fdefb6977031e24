"""Telling the Envoys of one machine what to do, by files that they watch.

Two of them listen on one port (SO_REUSEPORT, which is Envoy's default): the kernel gives each new
connection to one, and to the other while one is started again.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from contract.storage import write_atomically
from serving.traffic.backend import Endpoint
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.bootstrap import bootstrap
from serving.traffic.envoy.documents import Document, Kind, discovery_response, version_of
from serving.traffic.envoy.edge import EdgeLimits

_FILES: dict[Kind, str] = {"listeners": "lds.json", "routes": "rds.json", "clusters": "cds.json"}


def prepare(folder: Path, name: str, admin: Path, limits: EdgeLimits) -> Path:
    """Write what an Envoy of that name needs before it can start; return the bootstrap's path.

    Resource files of earlier are left: a restarted Envoy serves as before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the routes may hold the callers' token
    channel = FileChannel(folder, [admin])
    for kind in ("listeners", "clusters"):
        if not channel.path(kind).exists():
            channel.publish(kind, [])
    path = folder / f"{name}.json"
    sources = (channel.source("listeners"), channel.source("clusters"))
    document = bootstrap(*sources, admin, limits)
    write_atomically(path, json.dumps(document, indent=1))
    return path


class FileChannel:
    """A Channel of one folder: its Envoys re-read a file that is renamed into its place."""

    def __init__(self, folder: Path, admins: Sequence[Endpoint | Path]) -> None:
        self._folder = folder
        self._admins = [EnvoyAdmin(place) for place in admins]

    @property
    def admins(self) -> Sequence[EnvoyAdmin]:
        """All Envoys, also those that are started again or take no connections any more."""
        return self._admins

    def path(self, kind: Kind) -> Path:
        """Return the file of a kind of documents."""
        return self._folder / _FILES[kind]

    def source(self, kind: Kind) -> Document:
        """See Channel."""
        return {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(self.path(kind)),
                "watched_directory": {"path": str(self._folder)},
            },
        }

    def current(self, kind: Kind) -> Sequence[Document]:
        """See Channel."""
        listed: list[Document] = json.loads(self.path(kind).read_bytes())["resources"]
        return listed

    def publish(self, kind: Kind, resources: Sequence[Document]) -> str:
        """See Channel. A file whose content would stay the same is left alone."""
        path, text = self.path(kind), discovery_response(kind, resources)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
        return version_of(resources)

    def instances(self) -> Sequence[EnvoyAdmin]:
        """See Channel. One that is started again reads the files by itself: it is left out."""
        if len(self._admins) == 1:
            return self._admins
        return [one for one in self._admins if one.is_there()] or self._admins
