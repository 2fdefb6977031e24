"""The rows of a package that may serve as its control: ones that a good model answers."""

import json
from collections.abc import Iterator
from pathlib import Path

from contract.records.package import PackageManifest
from serving.server.core.model import made_up_columns
from serving.server.core.unanswerable import Control, control_of
from serving.server.engines.engine import Columns, ServedModel
from serving.server.engines.examples import ExamplesParser
from serving.server.requests.errors import InvalidInputError
from serving.server.requests.instances import InputReader

_ROWS = 5  # of the package's own, tried one after the other


def control_for(folder: Path, manifest: PackageManifest, model: ServedModel) -> Control:
    """Return what tells rows that this model cannot answer from a model that is broken.

    Its row is the first of the package's example rows that the model answers, else a made-up one.
    """
    candidates = [*_examples(folder, manifest), made_up_columns(manifest, 1)]
    return control_of(model.call, candidates, ExamplesParser(manifest.inputs))


def _examples(folder: Path, manifest: PackageManifest) -> Iterator[Columns]:
    path, reader = folder / manifest.examples, InputReader(manifest.inputs)
    if not manifest.examples or not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for _, line in zip(range(_ROWS), lines, strict=False):
            try:
                yield reader.read_rows([json.loads(line)])
            except (InvalidInputError, ValueError):  # the file is no more than a help
                return
