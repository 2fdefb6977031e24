"""The loss of each example, from logits, summed over the heads."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from components.models.model_hooks import MODEL_FILE, ModelHooks
from components.models.user_code import user_code
from contract.errors import UserCodeError
from contract.schema.pipeline import PipelineConfig

Tensors = Mapping[str, tf.Tensor]
ExampleLosses = Callable[[Tensors, Tensors, tf.Tensor], tf.Tensor]


def example_losses(config: PipelineConfig, hooks: ModelHooks) -> ExampleLosses:
    """Return the function `(labels, outputs, weights) -> loss of each example, [batch]`.

    It is the user's `loss` where there is one; otherwise, by head and times its `loss_weight`:
    cross-entropy from logits (sigmoid for binary, softmax for multiclass), squared error for
    regression. Class weights (`train.class_weights`) multiply a head's loss; example weights all.

    Raises:
        UserCodeError: If there is a `loss` beside factors of the losses that it replaces.
    """
    if hooks.loss is not None:
        _refuse_factors(config)
        return _checked(hooks.loss)
    class_weights = {
        name: tf.constant([by_class.get(c, 1.0) for c in config.heads[name].classes], tf.float32)
        for name, by_class in config.train.class_weights.items()
    }

    def of_head(name: str, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        head = config.heads[name]
        loss = head.loss_weight * _DEFAULTS[head.task](labels, outputs)
        if name in class_weights:
            loss *= tf.gather(class_weights[name], labels)
        return loss

    def losses(labels: Tensors, outputs: Tensors, weights: tf.Tensor) -> tf.Tensor:
        return tf.add_n([of_head(n, labels[n], outputs[n]) for n in config.heads]) * weights

    return losses


def _refuse_factors(config: PipelineConfig) -> None:
    found = [f"train.class_weights.{name}" for name in config.train.class_weights]
    found += [f"heads.{n}.loss_weight" for n, head in config.heads.items() if head.loss_weight != 1]
    if found:
        raise UserCodeError(
            f"{MODEL_FILE}: loss: it replaces the losses of the heads, so {', '.join(found)} would "
            "do nothing; multiply by them in it and take them from the config, or remove it"
        )


def _checked(hook: ExampleLosses) -> ExampleLosses:
    where = f"{MODEL_FILE}: loss"

    def losses(labels: Tensors, outputs: Tensors, weights: tf.Tensor) -> tf.Tensor:
        with user_code(where):
            found = tf.convert_to_tensor(hook(dict(labels), dict(outputs), weights))
        if not found.dtype.is_floating or not _is_one_each(found.shape, weights.shape):
            raise UserCodeError(
                f"{where}: returned {found.dtype.name} of shape {found.shape}; expected one float "
                "per example, [batch], with the weights applied"
            )
        return tf.cast(found, tf.float32)

    return losses


def _is_one_each(shape: tf.TensorShape, batch: tf.TensorShape) -> bool:
    return shape.rank == 1 and bool(shape.is_compatible_with(batch))


def _binary(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(labels, tf.float32), logits=outputs[:, 0]
    )


def _multiclass(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs)


def _regression(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.square(outputs[:, 0] - labels)


_DEFAULTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "binary_classification": _binary,
    "multiclass_classification": _multiclass,
    "regression": _regression,
}
