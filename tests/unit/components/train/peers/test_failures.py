"""What is behind an error: another process, by its type, or something of our own."""

import numpy as np
import pytest
import tensorflow as tf

from components.train.peers.collectives import Alone, Collective
from components.train.peers.failures import is_of_another_process
from components.train.peers.wire import PeerError
from contract.errors import SlipwayError, UserError


class Broken(Collective):
    """Sums over two processes, of which the other has failed."""

    def __init__(self, error: SlipwayError) -> None:
        super().__init__(0, 2, is_compressed=False)
        self._error = error

    def _small(self, flat: np.ndarray) -> np.ndarray:
        del flat
        raise self._error

    _large = _small

    def close(self) -> None:
        """Nobody to let go of."""


def raised_in_a_graph(collective: Collective) -> Exception:
    summed = tf.function(lambda: tf.numpy_function(collective.sum, [tf.ones(3)], tf.float32))
    with pytest.raises(tf.errors.OpError) as raised:
        summed()
    return raised.value


@pytest.mark.parametrize(
    "error", [PeerError("worker-0 is gone"), UserError("worker-0: a broken shard")]
)
def test_a_sum_that_fails_inside_a_graph_is_of_another_process(error: SlipwayError) -> None:
    collective = Broken(error)
    found = raised_in_a_graph(collective)
    assert is_of_another_process(found, collective)
    assert collective.failure is error


def test_a_tie_that_breaks_outside_a_graph_is_of_another_process() -> None:
    collective = Broken(PeerError("worker-0 is gone"))
    with pytest.raises(PeerError, match="worker-0 is gone") as raised:
        collective.sum(np.ones(3))
    assert is_of_another_process(raised.value, Alone())


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InvalidArgumentError(None, None, "the user's layer says PeerError"),
        ValueError("PeerError: of somebody else's library"),
    ],
)
def test_words_in_an_error_do_not_make_it_another_processes(error: Exception) -> None:
    assert not is_of_another_process(error, Alone())


def test_an_error_of_our_own_after_a_failed_sum_is_our_own() -> None:
    collective = Broken(PeerError("worker-0 is gone"))
    raised_in_a_graph(collective)
    assert not is_of_another_process(UserError("train.timeout_seconds are over"), collective)
