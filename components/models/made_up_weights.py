"""Weights for a look at a model: those that it begins with may hide what it does.

A kernel that begins with zeros makes every answer alike, and embeddings begin so close to 0 that
what is wrong with them moves an answer by less than rounding. No training begins with these.
"""

from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from components.data.raw_examples import Array
from contract.schema.data import HeadConfig

_DRAWS = 12  # of weights; answers of a logit have one sign in all of them once in 2,000 times

Answers = Mapping[str, Array]


def enliven(model: keras.Model) -> None:
    """Give numbers to trainable weights that are all 0, and embeddings the size of 1."""
    rng = np.random.default_rng(0)
    tables = {
        id(layer.embeddings)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Embedding)
    }
    for variable in model.trainable_variables:
        value = np.asarray(variable)
        size = float(np.sqrt(np.mean(np.square(value)))) if value.size else 1.0
        if size == 0.0:
            variable.assign(rng.normal(0.0, 1.0 / np.sqrt(_fan_in(value)), value.shape))
        elif id(variable) in tables:
            variable.assign(value / size)


def one_sided(
    model: keras.Model, heads: Mapping[str, HeadConfig], answer: Callable[[], Answers]
) -> Iterator[str]:
    """Yield what is odd about the range of heads of classification, in words that begin with them.

    Weights are drawn at random until an answer is what a logit may be; of most models the first
    ones are. They are afterwards as they were.

    Args:
        model: The model.
        heads: The pipeline's.
        answer: Returns its raw outputs to some rows, by head, `[rows, output_size]`.
    """
    found = _ranges(answer(), heads)
    before = model.get_weights()
    rng = np.random.default_rng(1)
    for _ in range(_DRAWS if found else 0):
        model.set_weights([_drawn(weight, rng) for weight in before])
        later = _ranges(answer(), heads)
        found = {head: words for head, words in found.items() if later.get(head) == words}
        if not found:
            break
    model.set_weights(before)
    yield from (f"head '{head}' {words}" for head, words in found.items())


# --- inside -------------------------------------------------------------------------------------


def _ranges(answers: Answers, heads: Mapping[str, HeadConfig]) -> dict[str, str]:
    """Return, for each head whose outputs may not be logits, why."""
    words = {head: _range(heads[head], one.astype(np.float64)) for head, one in answers.items()}
    return {head: said for head, said in words.items() if said}


def _range(head: HeadConfig, outputs: Array) -> str:
    if head.task == "regression" or not np.isfinite(outputs).all():
        return ""
    if head.task == "multiclass_classification":
        is_shares = (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3)
        return "answers numbers that sum to 1, as probabilities do" if is_shares else ""
    if (outputs >= 0).all():
        return f"is never below 0, so that every row would be '{head.classes[1]}'"
    if (outputs <= 0).all():
        return f"is never above 0, so that every row would be '{head.classes[0]}'"
    return ""


def _drawn(weight: Array, rng: np.random.Generator) -> Array:
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    drawn = rng.normal(0.0, 2.0 / np.sqrt(_fan_in(weight)), weight.shape)
    # what was above 0 everywhere may be a variance or a scale
    return (np.abs(drawn) + 0.1 if (weight > 0).all() else drawn).astype(weight.dtype)


def _fan_in(weight: Array) -> int:
    return int(np.prod(weight.shape[:-1])) or 1
