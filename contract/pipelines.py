"""Which pipeline folders there are: shipped, of the workspace, and of SLIPWAY_PIPELINES."""

import os
from collections.abc import Mapping
from pathlib import Path

from contract.errors import ConfigError, NotFoundError, did_you_mean
from contract.loader import CONFIG_FILE
from contract.places import config_folders


def pipeline_folders(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return every pipeline folder by name: the workspace's own, then those of SLIPWAY_PIPELINES.

    `SLIPWAY_PIPELINES` holds folders of pipeline folders, separated as in PATH. A pipeline there
    replaces one of the workspace that has its name, and that replaces one that Slipway ships; a
    name that two folders of SLIPWAY_PIPELINES have is left out (`folder_problems` names both).
    """
    parents = config_folders("pipelines", environment)
    own = {one.name: one for parent in parents for one in _folders_in(parent)}
    found = _by_name(environment)
    named = {name: folders[0] for name, folders in found.items() if len(folders) == 1}
    return {name: one for name, one in own.items() if name not in found} | named


def folder_problems(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what is wrong with SLIPWAY_PIPELINES, one line a problem."""
    problems = []
    for parent in _parents(environment):
        if (parent / CONFIG_FILE).exists():
            problem = f"is a pipeline itself; expected its parent, {parent.resolve().parent}"
        elif not parent.is_dir():
            problem = "is a file" if parent.exists() else "no such folder"
            problem += "; expected a folder of pipeline folders"
        else:
            continue
        problems.append(f"SLIPWAY_PIPELINES: {parent}: {problem}")
    problems += [
        _ambiguous(n, folders) for n, folders in _by_name(environment).items() if folders[1:]
    ]
    return problems


def find_pipeline(name: str) -> Path:
    """Return the folder of a pipeline.

    Raises:
        ConfigError: If two folders of SLIPWAY_PIPELINES have a pipeline of this name.
        NotFoundError: If there is none, with the nearest name.
    """
    folders = pipeline_folders()
    if name in folders:
        return folders[name]
    if len(same := _by_name(os.environ).get(name, [])) > 1:
        raise ConfigError([_ambiguous(name, same)])
    known = ", ".join(sorted(folders)) or "none"
    raise NotFoundError(
        "\n".join(
            [
                f"pipeline '{name}': not found{did_you_mean(name, folders)} (known: {known}). "
                "'slipway new NAME' makes one; SLIPWAY_PIPELINES names the parents of others.",
                *folder_problems(),
            ]
        )
    )


def _parents(environment: Mapping[str, str]) -> list[Path]:
    named = environment.get("SLIPWAY_PIPELINES", "").split(os.pathsep)
    return list(dict.fromkeys(Path(parent).expanduser() for parent in named if parent))


def _folders_in(parent: Path) -> list[Path]:
    return [config.parent for config in sorted(parent.glob(f"*/{CONFIG_FILE}"))]


def _by_name(environment: Mapping[str, str]) -> dict[str, list[Path]]:
    """Return the pipeline folders of SLIPWAY_PIPELINES by name; each place once."""
    found: dict[str, dict[Path, Path]] = {}
    for parent in _parents(environment):
        for folder in _folders_in(parent):
            found.setdefault(folder.name, {}).setdefault(folder.resolve(), folder)
    return {name: list(folders.values()) for name, folders in found.items()}


def _ambiguous(name: str, folders: list[Path]) -> str:
    places = " and ".join(map(str, folders))
    return f"pipeline '{name}': in {places}, both of SLIPWAY_PIPELINES; rename or remove one"
