"""Evaluation's word that no checkpoint of this model can be served: training ends at once."""

import time
from collections.abc import Callable

from contract.errors import DataError, NotFoundError, UserCodeError
from contract.layout import RunLayout
from contract.records.evaluation import ModelRefused

_LOOK_SECONDS = 1.0


class RefusalWatch:
    """Looks, once a second at most, whether evaluation has refused the model."""

    def __init__(self, run: RunLayout, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = run.model_refused
        self._clock = clock
        self._look_at = clock()

    def check(self) -> None:
        """Do nothing, unless the model was refused.

        Raises:
            UserCodeError: With what evaluation has found.
        """
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + _LOOK_SECONDS
        try:
            refused = ModelRefused.read(self._path)
        except (NotFoundError, DataError):
            return  # DataError: it is being written on a file system that shows it
        raise UserCodeError(
            f"train: ended, because evaluation refused checkpoint {refused.step}: {refused.reason}"
        )
