"""Which folders of the shared storage a pod sees, and which of them it may change. Pure."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict

from contract.layout import PipelineLayout
from contract.schema.cluster import VolumeConfig
from contract.steps import STEPS

_REMOVING = ("ingest", "promote")  # what is beyond `retention`: runs, packages, prediction logs


class FolderAccess(BaseModel):
    """One folder of a volume, mounted by itself."""

    model_config = ConfigDict(frozen=True)

    path: str
    is_read_only: bool = False


def step_access(layout: PipelineLayout, step: str) -> tuple[FolderAccess, ...]:
    """Return what a step's pods may change: their pipeline's folder, less what others own in it.

    User code can thus write neither packages, nor plans, nor what is another pipeline's; it may
    read the whole volume.
    """
    own = [FolderAccess(path=str(layout.path))]
    if step not in ("package", *_REMOVING):
        own.append(FolderAccess(path=str(layout.versions), is_read_only=True))
    if not STEPS[step].is_deploying:
        own.append(FolderAccess(path=str(layout.serving), is_read_only=True))
        if step in _REMOVING:
            own.append(FolderAccess(path=str(layout.prediction_logs)))
    return tuple(own)


def make_folders(access: Sequence[FolderAccess]) -> None:
    """Make the folders that are not there: a node would make them as root."""
    for one in access:
        Path(one.path).mkdir(parents=True, exist_ok=True)


def mounts(
    volumes: Sequence[VolumeConfig], access: Sequence[FolderAccess], is_narrow: bool
) -> list[dict[str, Any]]:
    """Return the mounts of a container.

    Args:
        volumes: What the runtime file gives to every pod.
        access: Folders that are mounted by themselves; without any, volumes are as the file says,
            else their other folders are read-only.
        is_narrow: Whether a volume of these folders is not mounted otherwise.
    """
    made = []
    for volume in volumes:
        parts = [(one, _part(one, volume, volumes)) for one in access]
        inside = [(one, part) for one, part in parts if part is not None]
        if not (inside and is_narrow):
            made.append(_mount(volume, volume.mount_path, volume.is_read_only or bool(access)))
        for one, part in inside:
            is_read_only = one.is_read_only or volume.is_read_only
            made.append(_mount(volume, one.path, is_read_only) | part)
    return list({mount["mountPath"]: mount for mount in made}.values())


def _mount(volume: VolumeConfig, path: str, is_read_only: bool) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": volume.name, "mountPath": path}
    return mount | ({"readOnly": True} if is_read_only else {})


def _part(
    access: FolderAccess, volume: VolumeConfig, volumes: Sequence[VolumeConfig]
) -> dict[str, str] | None:
    """Return where in a volume a folder is; None if it is in another volume, or in none."""
    path = PurePath(access.path)
    holders: Iterator[VolumeConfig] = (v for v in volumes if path.is_relative_to(v.mount_path))
    nearest = max(holders, key=lambda one: len(PurePath(one.mount_path).parts), default=None)
    if nearest != volume:
        return None
    part = path.relative_to(volume.mount_path)
    return {} if part == PurePath() else {"subPath": str(part)}
