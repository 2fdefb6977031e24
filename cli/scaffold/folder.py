"""A new pipeline folder: where it goes, whether it may go there, and what it holds."""

import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from contract.errors import ConfigError, UserError

TEMPLATE = resources.files("cli") / "template"


Write = Callable[[Path, Path], None]  # into this folder, which will be that one


def new_folder(name: str, into: Path | None, write: Write | None = None) -> Path:
    """Make the folder of a new pipeline, whole or not at all, and return it.

    Args:
        name: Lower-case letters, digits and '_'.
        into: Folder of pipeline folders; without it the first one of SLIPWAY_PIPELINES, or
            `configs/pipelines`.
        write: Fills the folder; without it a pipeline that runs as it is.

    Raises:
        ConfigError: If the name is not one for a pipeline.
        UserError: If there is a pipeline of this name, or no folder can be made there.
    """
    from contract.pipelines import pipeline_folders
    from contract.places import workspace
    from contract.schema.section import NAME
    from contract.storage import publish_directory

    if not re.fullmatch(NAME, name):
        raise ConfigError(
            [
                f"name '{name}': expected a lower-case letter, then at most 39 lower-case letters, "
                "digits or '_', as in 'churn_2'"
            ]
        )
    known = pipeline_folders()
    parent = (into or own_parent() or workspace() / "configs" / "pipelines").expanduser().resolve()
    folder = parent / name
    if name in known or folder.exists():
        raise UserError(
            f"pipeline '{name}': already exists: {known.get(name, folder)}; choose another name"
        )
    try:
        with publish_directory(folder) as temporary:
            (write or write_template)(temporary, folder)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"--into {parent}: cannot create a folder there: {error.strerror}; choose another"
        ) from error
    if not schema_path().exists():  # a checkout has it; an empty workspace does not
        write_schema(schema_path())
    return folder


def write_template(folder: Path, target: Path) -> None:
    """Write the pipeline that runs as it is into `folder`, which will be `target`."""
    files = [file for file in TEMPLATE.iterdir() if file.is_file()]
    for source in sorted(files, key=lambda file: file.name):
        text = source.read_text(encoding="utf-8")
        if source.name == "pipeline.yaml":
            text = text.replace("$schema=SCHEMA", f"$schema={schema_from(target)}")
            text = text.replace("name: template", f"name: {target.name}", 1)
        (folder / source.name).write_text(text, encoding="utf-8")


def from_table(table: Path, label: str) -> Write:
    """Return what writes a pipeline that learns the column `label` of a file."""

    from cli.scaffold.table_columns import read_table
    from cli.scaffold.table_pipeline import write_from_table

    def write(folder: Path, target: Path) -> None:
        read = read_table(table, label)
        write_from_table(folder, target, read, label, schema_from(target))

    return write


def own_parent() -> Path | None:
    """Return the folder in which a user of SLIPWAY_PIPELINES keeps pipelines."""
    parents = own_parents()
    return Path(parents[0]) if parents else None


def own_parents() -> list[str]:
    """Return the folders that SLIPWAY_PIPELINES names."""
    return [part for part in os.environ.get("SLIPWAY_PIPELINES", "").split(os.pathsep) if part]


def schema_path() -> Path:
    """Return the path of the schema for editors."""
    from contract.places import workspace

    return workspace() / "configs" / "pipeline.schema.json"


def runtime_schema_path() -> Path:
    """Return the path of the schema of runtime files for editors."""
    return schema_path().with_name("runtime.schema.json")


def write_schema(path: Path, is_runtime: bool = False) -> Path:
    """Write the JSON Schema of pipeline.yaml, or of runtime files, and return its path."""
    from contract.storage import write_atomically

    write_atomically(path, schema_text(is_runtime))
    return path


def schema_text(is_runtime: bool = False) -> str:
    """Return the JSON Schema of pipeline.yaml, or of runtime files, as it belongs in its file."""
    import json

    from contract.schema.pipeline import PipelineConfig
    from contract.schema.runtime import RuntimeConfig

    document = (RuntimeConfig if is_runtime else PipelineConfig).model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schema_from(folder: Path) -> str:
    """Return the schema's path as an editor needs it: relative inside the checkout."""
    path = schema_path()
    if folder.is_relative_to(path.parent):
        return os.path.relpath(path, folder)
    return str(path)
