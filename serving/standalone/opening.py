"""Opens a version: a SavedModel, or the LiteRT file beside it where that is preferred."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.standalone.flags import Flags
from serving.standalone.lite_model import FILE_NAME, LiteModel

Array = np.ndarray[Any, Any]


class OpenedModel(Protocol):
    """A loaded version. `run` may be used from several threads at once."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Each SignatureDef by its name."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return tensors; all are named as signatures name them.

        Raises:
            CallError: If it fails.
        """

    def close(self) -> None:
        """Free it."""


def open_version(folder: Path, flags: Flags) -> OpenedModel:
    """Load what is in a version's folder.

    Raises:
        DataError: If it cannot be loaded.
    """
    if flags.prefer_tflite_model and (folder / FILE_NAME).is_file():
        return LiteModel(folder / FILE_NAME)
    # Here, because TensorFlow costs a server of LiteRT files seconds and hundreds of megabytes.
    from serving.standalone.saved_model import SavedModel

    tags = flags.saved_model_tags.split(",")
    return SavedModel(folder, tags, flags.intra_op_threads, flags.inter_op_threads)
