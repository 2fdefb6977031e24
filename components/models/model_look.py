"""A look at the user's model before any data is read: built on placeholders, twice, and called.

Whatever it finds would be a wrong answer, or hours lost, later: a model that is another one each
time it is built, state that no checkpoint has, answers that change with the padding of a batch.
What the graph alone shows (`components.models.user_model`) is found here too.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.answer_differences import largest_difference
from components.models.frozen_constants import check_constants
from components.models.made_up_weights import enliven, one_sided
from components.models.model_graph import lookups
from components.models.model_hooks import MODEL_FILE
from components.models.placeholders import Placeholder, graph_of, made_up_rows, placeholders
from components.models.traced_model import check_traced
from components.models.two_builds import build_twice, check_same_answers, check_same_weights
from components.models.user_model import head_outputs
from contract.errors import UserCodeError
from contract.schema.pipeline import PipelineConfig

_WHERE = f"{MODEL_FILE}: build_model"
_TOLERANCE = 1e-4  # of answers to equal rows; sums in another order differ by some 1e-6
_ROWS = 8  # the first has one value in each padded feature, the last eight

Rows = Mapping[str, Array]
Features = dict[str, Placeholder]


def look_at_model(
    config: PipelineConfig, folder: Path, preprocessing_fn: Callable[..., dict[str, Any]]
) -> tuple[str, ...]:
    """Build the model of a pipeline folder on placeholders and try it; return warnings.

    Raises:
        UserCodeError: With the first thing that is wrong, its layer or feature, and the fix.
    """
    # In float32, whatever the training computes in: a sum in bfloat16 differs with its order.
    train = config.train.model_copy(update={"precision": "float32"})
    config = config.model_copy(update={"train": train})
    features = placeholders(config, preprocessing_fn)
    check_constants(folder, partial(graph_of, config))
    builds = build_twice(config, folder, keras_inputs(features))
    first = builds.first
    enliven(first)
    check_same_weights(builds)
    for name in _forgotten_state(first):
        raise UserCodeError(
            f"{_WHERE}: {name} is a tf.Variable that no checkpoint has; create it by "
            "self.add_weight(...) of a Keras layer"
        )
    check_traced(first, config, _specs(features))
    rows = made_up_rows(features, _ids(first), _ROWS)
    try:
        answer = _answer(first, config, rows)
    except Exception as error:  # noqa: BLE001  # made-up values may be none that the model takes
        _check_batches(first, config, rows, error)
        return tuple(_warnings(first, features))
    empty = _warnings_of_empty_lists(first, config, rows, features)
    _check_same_calls(answer, _answer(first, config, rows))
    check_same_answers(builds, rows, lambda model, tried: _answer(model, config, tried), _TOLERANCE)
    _check_rows_beside(answer, first, config, rows)
    for name in (name for name, feature in features.items() if feature.is_padded):
        for row in range(_ROWS):
            alone = _alone(rows, features, row)
            padded = _answer(first, config, {**alone, name: _padded(alone[name])})
            _check_padding(name, features[name], _answer(first, config, alone), padded)
    ranges = _warnings_of_ranges(first, config, rows)
    return (*_warnings(first, features), *empty, *ranges)


def keras_inputs(features: Features) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """Return the shape of one example and the type of each feature, as `build_on` takes them."""
    return {name: (feature.shape, feature.dtype) for name, feature in features.items()}


# --- inside -------------------------------------------------------------------------------------


def _check_batches(
    model: keras.Model, config: PipelineConfig, rows: Rows, error: Exception
) -> None:
    """Refuse a model that fails on some rows and takes the same ones in batches of training."""
    size = config.train.batch_size
    batch = {name: np.resize(column, (size, *column.shape[1:])) for name, column in rows.items()}
    try:
        _answer(model, config, batch)
    except Exception:  # noqa: BLE001  # it is the values that it does not take
        return
    raise UserCodeError(
        f"{_WHERE}: the model takes batches of {size} rows (train.batch_size) and fails on "
        f"{_ROWS}; expected any number of rows, as in service: do not write the batch size into a "
        f"shape. {type(error).__name__}: {str(error).splitlines()[0]}"
    ) from error


def _check_same_calls(answer: dict[str, Array], again: dict[str, Array]) -> None:
    for head in answer:
        if (difference := largest_difference(answer[head], again[head])) > _TOLERANCE:
            raise UserCodeError(
                f"{_WHERE}: head '{head}' answers the same rows differently from call to call (by "
                f"{difference:.2g}): something random or counted is in use outside training. Keep "
                "random layers behind 'training', and state in weights"
            )


def _check_rows_beside(
    answer: dict[str, Array], model: keras.Model, config: PipelineConfig, rows: Rows
) -> None:
    """Refuse answers that change with the order of the rows, or with the rows beside them."""
    backwards = _answer(model, config, {name: column[::-1] for name, column in rows.items()})
    first = _answer(model, config, {name: column[:1] for name, column in rows.items()})
    for head in answer:
        difference = max(
            largest_difference(answer[head], backwards[head][::-1]),
            largest_difference(answer[head][:1], first[head]),
        )
        if difference > _TOLERANCE:
            raise UserCodeError(
                f"{_WHERE}: head '{head}' answers a row differently (by {difference:.2g}) with "
                "other rows beside it, or in another order: something is computed over the batch, "
                "axis 0. Compute it over the other axes, or in preprocessing_fn"
            )


def _check_padding(
    name: str, feature: Placeholder, answer: dict[str, Array], padded: dict[str, Array]
) -> None:
    for head in answer:
        if (difference := largest_difference(answer[head], padded[head])) <= _TOLERANCE:
            continue
        raise UserCodeError(
            f"{_WHERE}: head '{head}' changes with the padding of feature '{name}' (by "
            f"{difference:.2g}): a row's answer would depend on longer rows beside it. "
            f"{_mask_advice(feature)}"
        )


def _mask_advice(feature: Placeholder) -> str:
    if feature.dtype == "string" or not feature.dtype.startswith("int"):
        return "Mask it: keras.layers.Masking, or multiply by where it is not padding"
    start = "" if feature.least is None else f"; its ids begin at {feature.least}"
    return (
        f"Mask it, as with Embedding(..., mask_zero=True), and keep id 0 for padding{start}: add 1 "
        f"to the ids of a vocabulary in preprocessing_fn"
    )


def _warnings(model: keras.Model, features: Features) -> Iterator[str]:
    for layer, name in lookups(model):
        feature = features[name]
        if feature.is_padded and feature.least is not None and feature.least <= 0:
            masked = "and masked by" if layer.mask_zero else "as well as an id of"
            yield (
                f"{_WHERE}: feature '{name}' is padded with 0, which is also the id of its most "
                f"frequent value {masked} layer '{layer.name}': add 1 to the ids in "
                "preprocessing_fn, and a row to the embedding"
            )
        if feature.least is not None and feature.least < 0:
            yield (
                f"{_WHERE}: feature '{name}' is {feature.least} for a value never seen, and layer "
                f"'{layer.name}' has no such row: give the vocabulary num_oov_buckets=1"
            )


def _warnings_of_empty_lists(
    model: keras.Model, config: PipelineConfig, rows: Rows, features: Features
) -> tuple[str, ...]:
    """Say which heads have no finite answer to a row whose list is empty, beside a longer one."""
    found = list[str]()
    for name in (name for name, feature in features.items() if feature.is_padded):
        alone = _alone(rows, features, 0)
        empty = np.full_like(alone[name], _filler(alone[name]))
        before = _answer(model, config, alone)
        answer = _answer(model, config, {**alone, name: empty})
        found += [
            f"{_WHERE}: head '{head}' is not a finite number where the list '{name}' is empty: "
            "such a row ends a training, and callers get 400 for it. Divide by a count of at "
            "least 1, or add a value that every list has"
            for head in answer
            if np.isfinite(before[head]).all() and not np.isfinite(answer[head]).all()
        ]
    return tuple(found)


def _warnings_of_ranges(model: keras.Model, config: PipelineConfig, rows: Rows) -> tuple[str, ...]:
    odd = one_sided(model, config.heads, lambda: _answer(model, config, rows))
    return tuple(
        f"{_WHERE}: {words}; expected logits, of any size and sign: Slipway itself makes "
        "probabilities of them"
        for words in odd
    )


def _specs(features: Features) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec((None, *feature.shape), feature.dtype)
        for name, feature in features.items()
    }


def _ids(model: keras.Model) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for layer, name in lookups(model):
        sizes[name] = min(sizes.get(name, layer.input_dim), layer.input_dim)
    return sizes


def _forgotten_state(model: keras.Model) -> Iterator[str]:
    """Yield where layers keep variables of TensorFlow that Keras does not know."""
    known = {id(variable.value) for variable in model.variables}
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            if isinstance(value, tf.Variable) and id(value) not in known:
                yield f"'{name}' of layer '{layer.name}'"


def _answer(model: keras.Model, config: PipelineConfig, rows: Rows) -> dict[str, Array]:
    tensors = {name: tf.constant(column) for name, column in rows.items()}
    outputs = head_outputs(model, config, tensors, training=False)
    return {head: output.numpy() for head, output in outputs.items()}


def _alone(rows: Rows, features: Features, row: int) -> dict[str, Array]:
    """Return one row as it is when nothing longer is beside it."""
    return {
        name: column[row : row + 1, : row + 1]
        if features[name].is_padded
        else column[row : row + 1]
        for name, column in rows.items()
    }


def _padded(column: Array) -> Array:
    """Return a column with as much padding as it would get beside the longest row, and more."""
    padding = np.full((len(column), _ROWS, *column.shape[2:]), _filler(column))
    return np.concatenate([column, padding.astype(column.dtype)], axis=1)


def _filler(column: Array) -> Any:
    return b"" if column.dtype == object else 0
