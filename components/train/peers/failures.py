"""What is behind an error that TensorFlow raises in mid-training."""

import tensorflow as tf

from components.data.examples import ExampleSource
from components.data.shards import broken_shard
from components.models.user_code import blamed_on_user
from components.train.peers.collectives import Collective
from components.train.peers.wire import PeerError
from contract.errors import DataError, SlipwayError, UserCodeError, UserError

# What TensorFlow's own collectives raise when a process is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def explain(error: Exception, source: ExampleSource, batch_size: int, step: int) -> Exception:
    """Tell broken data from a broken model: TensorFlow raises the same classes for both.

    What is neither an error of TensorFlow's nor of the user's code is returned as it is.
    """
    if isinstance(error, SlipwayError):
        return error
    if not isinstance(error, tf.errors.OpError):
        return blamed_on_user(f"train: the model, after step {step}", error) or error
    if problem := broken_shard(source.shards):
        return DataError(problem)
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return UserError(
            f"train: out of memory after step {step}; lower train.batch_size (now {batch_size}), "
            "raise train.accumulation_steps, or make the model smaller"
        )
    return UserCodeError(f"train: the model failed after step {step}: {_cause(error)}")


def is_of_another_process(error: Exception, collective: Collective) -> bool:
    """Tell whether an error is a broken tie to a process, or comes of a sum that failed for one."""
    has_failed_sum = isinstance(error, tf.errors.OpError) and collective.failure is not None
    return isinstance(error, (PeerError, *_LOST)) or has_failed_sum


def _cause(error: tf.errors.OpError) -> str:
    """Return the line that says what happened; TensorFlow puts the graph's history around it."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    return next((line for line in lines if "[[{{" not in line and " = " in line), lines[0])[:500]
