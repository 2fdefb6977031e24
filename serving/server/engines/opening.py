"""Opens a model with the engine that it was made for."""

from collections.abc import Mapping
from pathlib import Path

from contract.records.package import InputSpec
from serving.server.engines.engine import ServedModel
from serving.server.engines.feature_names import by_callers_names


def open_model(
    model: Path, engine: Path | None, inputs: Mapping[str, InputSpec], concurrent_calls: int
) -> ServedModel:
    """Load a model.

    TensorFlow is imported only where something needs it: it costs a process seconds of start-up and
    hundreds of megabytes.

    Args:
        model: The SavedModel.
        engine: The folder of the same model for another engine, if that is to serve it.
        inputs: Of `serving_default`, as callers know them.
        concurrent_calls: How many threads will call at once.

    Raises:
        DataError: If a file is missing or broken, or the engine does not take it.
    """
    opened: ServedModel
    if engine is not None:
        from serving.server.engines.split_engine import SplitModel

        opened = SplitModel(engine, inputs, concurrent_calls)
    else:
        from serving.server.engines.tensorflow_engine import TensorFlowModel

        opened = TensorFlowModel(model)
    return by_callers_names(opened, inputs)
