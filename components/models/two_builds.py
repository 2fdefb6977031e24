"""The user's model built twice, the second time as another process would: both must be the same.

A checkpoint holds weights, and every step builds the model for them again. What else is drawn, read
or counted while it is built is another model with the same weights.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.data.raw_examples import Array
from components.models.answer_differences import largest_difference
from components.models.model_hooks import MODEL_FILE, hooks_of, load_hooks
from components.models.other_process import Elsewhere
from components.models.user_model import Shapes, build_on
from contract.errors import SlipwayError, UserCodeError
from contract.schema.pipeline import PipelineConfig

_WHERE = f"{MODEL_FILE}: build_model"
log = logging.getLogger("slipway")

Rows = Mapping[str, Array]
Answer = Callable[[keras.Model, Rows], dict[str, Array]]


@dataclass(frozen=True)
class TwoBuilds:
    """A model, the same built as another process would, and what that one asked its process.

    `again` builds it once more in this process.
    """

    first: keras.Model
    second: keras.Model
    elsewhere: Elsewhere
    again: Callable[[], keras.Model]


def build_twice(config: PipelineConfig, folder: Path, features: Shapes) -> TwoBuilds:
    """Build the model of a pipeline folder here and as another process would.

    Raises:
        UserCodeError: If it cannot be built, or what the other process builds is no model of the
            pipeline's features and heads.
    """

    def again() -> keras.Model:
        return build_on(config, load_hooks(folder), features)

    def built(elsewhere: Elsewhere) -> keras.Model:
        return build_on(config, hooks_of(elsewhere.load(MODEL_FILE)), features)

    first, elsewhere = again(), Elsewhere(folder)
    try:
        return TwoBuilds(first, built(elsewhere), elsewhere, again)
    except SlipwayError as error:
        if error.__cause__ is None:  # the model was built, and is refused
            raise UserCodeError(f"{error}, as in this process. {in_words(elsewhere)}") from error
        # It failed on what it was told: a folder with the user's name, say, that does not exist.
        said = str(error).partition("\n")[0]
        log.info("%s: built again with the facts of this process, others fail: %s", _WHERE, said)
    elsewhere = Elsewhere(folder, has_other_facts=False)
    return TwoBuilds(first, built(elsewhere), elsewhere, again)


def in_words(elsewhere: Elsewhere) -> str:
    """Return what a model asked its process, and what to do; empty if nothing."""
    if not elsewhere.words:
        return ""
    return (
        f"{MODEL_FILE} {elsewhere.words}, so that evaluation and serving have another model than "
        "training; use sorted(...), a list, a fixed number, or a hyperparameter"
    )


def check_same_weights(builds: TwoBuilds) -> None:
    """Give both models the same weights, or refuse the model with what differs."""
    if _shapes(builds.first) != _shapes(builds.second):
        is_random = _shapes(builds.again()) != _shapes(builds.first)
        advice = "" if is_random else in_words(builds.elsewhere)
        raise UserCodeError(
            f"{_WHERE}: built twice it has other weights: {_differing(builds)}; a checkpoint of "
            f"one does not fit the other. {advice or 'Derive all sizes from hyperparameters'}"
        )
    builds.second.set_weights(builds.first.get_weights())


def check_same_answers(builds: TwoBuilds, rows: Rows, answer: Answer, tolerance: float) -> None:
    """Refuse a model that answers the same rows differently when it is built twice.

    Args:
        builds: The two, with the same weights.
        rows: Some rows, as the model takes them. Rows of texts that the model's code went through
            are tried, too: a table made of them knows no others.
        answer: Returns what a model answers to rows, by head.
        tolerance: Up to which answers are the same.
    """
    for tried in (rows, *_rows_of_texts(rows, list(builds.elsewhere.texts))):
        _check_same(builds, tried, answer, tolerance)


# --- inside -------------------------------------------------------------------------------------


def _check_same(builds: TwoBuilds, rows: Rows, answer: Answer, tolerance: float) -> None:
    expected = answer(builds.first, rows)
    if (found := _first_difference(expected, answer(builds.second, rows), tolerance)) is None:
        return
    third = builds.again()
    third.set_weights(builds.first.get_weights())
    is_random = _first_difference(expected, answer(third, rows), tolerance) is not None
    cause = "" if is_random else in_words(builds.elsewhere)
    cause = cause or (
        "a constant is drawn at random in build_model. It is in no checkpoint; seed it, or make it "
        "a weight"
    )
    place = _differing_layer(builds, rows, tolerance)
    raise UserCodeError(
        f"{_WHERE}: built twice, with the same weights, head '{found[0]}' answers the same rows "
        f"differently (by {found[1]:.2g}){place}: {cause}"
    )


def _shapes(model: keras.Model) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.weights]


def _differing(builds: TwoBuilds) -> str:
    one, other = _shapes(builds.first), _shapes(builds.second)
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} of them"
    place = next(place for place, shape in enumerate(one) if shape != other[place])
    layer = builds.first.weights[place].path.split("/")[-2]
    return f"of shape {list(one[place])} and {list(other[place])}, in layer '{layer}'"


def _rows_of_texts(rows: Rows, texts: list[str]) -> Iterator[Rows]:
    """Yield the rows once more with these texts in place of theirs, if there are any."""
    columns = {name: column for name, column in rows.items() if column.dtype == object}
    if texts and columns:
        changed = dict(rows)
        for name, column in columns.items():
            changed[name] = column.copy()
            is_text = column != b""
            words = np.array([text.encode() for text in texts], object)
            changed[name][is_text] = np.resize(words, int(is_text.sum()))
        yield changed


def _first_difference(
    expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: float
) -> tuple[str, float] | None:
    for head, one in expected.items():
        if (difference := largest_difference(one, found[head])) > tolerance:
            return head, difference
    return None


def _differing_layer(builds: TwoBuilds, rows: Rows, tolerance: float) -> str:
    """Return the first layer or operation whose output differs, in words; empty if not found."""
    pairs = zip(_outputs(builds.first, rows), _outputs(builds.second, rows), strict=False)
    for (name, one), (_, other) in pairs:
        if one.shape != other.shape or largest_difference(one, other) > tolerance:
            return f", from its layer or operation '{name}' on"
    return ""


def _outputs(model: keras.Model, rows: Rows) -> Iterator[tuple[str, Array]]:
    """Yield the output of each layer and operation that has one, in the order of execution."""
    found = [
        (one.name, one._inbound_nodes[0].output_tensors[0])
        for one in model.operations
        if not isinstance(one, keras.layers.InputLayer)
        and len(one._inbound_nodes) == 1
        and len(one._inbound_nodes[0].output_tensors) == 1
    ]
    inner: Any = keras.Function(model.input, [output for _, output in found])
    values = inner({name: keras.ops.convert_to_tensor(rows[name]) for name in model.input})
    yield from ((name, np.asarray(v)) for (name, _), v in zip(found, values, strict=True))
