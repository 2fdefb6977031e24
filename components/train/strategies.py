"""How training is spread over devices: one `tf.distribute.Strategy` per name in the config."""

import logging
from collections.abc import Callable

import tensorflow as tf

log = logging.getLogger("slipway")


def _single() -> tf.distribute.Strategy:
    """TensorFlow's default strategy: one replica, on the first accelerator or the CPU."""
    return tf.distribute.get_strategy()


def _mirrored() -> tf.distribute.Strategy:
    """One replica on each accelerator of this machine, or on each logical CPU device."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


_STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "single": _single,
    "mirrored": _mirrored,
}


def open_strategy(name: str) -> tf.distribute.Strategy:
    """Return the strategy of `train.strategy`; models and optimizers are made in its scope."""
    strategy = _STRATEGIES[name]()
    log.info("train: strategy %s, %d replica(s)", name, strategy.num_replicas_in_sync)
    return strategy
