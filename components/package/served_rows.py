"""The packaged model behind its server: does the answer to a row depend on that row alone?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.package.skew import REQUEST_ROWS, REQUEST_TIMEOUT_SECONDS, predictions
from components.quality.row_dependence import in_words
from components.quality.row_independence import (
    Limits,
    Row,
    Subject,
    find_dependence,
    telling_rows,
)
from contract.clients.http import open_client
from contract.errors import UserCodeError
from contract.records.package import InputSpec

_VALUE = "predictions"  # what the only output is called here


def require_independent_rows(
    predict_url: str,
    rows: Sequence[Row],
    inputs: Mapping[str, InputSpec],
    tolerance: float,
    attempts: int = 1,
) -> int:
    """Ask a server for some rows together, twice, in another order, and each alone.

    Args:
        predict_url: The server's `:predict`.
        rows: As callers send them; a few dozen are asked for.
        inputs: The features.
        tolerance: How far two answers to the same row may be apart.
        attempts: How often a request that the server fails (5xx) is tried.

    Returns:
        How many rows were asked for.

    Raises:
        UserCodeError: If an answer depends on more than its row; with the cause.
    """
    lists = [name for name, spec in inputs.items() if spec.is_variable_length]
    whole = [{**dict.fromkeys(lists, ()), **row} for row in rows]
    lengths = {name: [len(row[name]) for row in whole] for name in lists}
    chosen = [whole[place] for place in telling_rows(lengths, len(rows), REQUEST_ROWS)]
    with open_client(predict_url, REQUEST_TIMEOUT_SECONDS) as http:

        def ask(batch: Sequence[Row]) -> dict[str, Array]:
            body = {"instances": list(batch)}
            return _by_output(predictions(http, predict_url, body, attempts))

        found = find_dependence(Subject(ask, frozenset(lists)), chosen, Limits(tolerance))
    if found is not None:
        of = "" if found.output != _VALUE else "the packaged model"
        raise UserCodeError(
            f"package: {in_words(found, of)}. It is not kept: in service a row's answer would "
            "depend on the requests beside it"
        )
    return len(chosen)


def _by_output(answers: Sequence[Any]) -> dict[str, Array]:
    if answers and isinstance(answers[0], Mapping):
        names = answers[0].keys()
        return {name: np.array([one[name] for one in answers], np.float64) for name in names}
    return {_VALUE: np.array(answers, np.float64)}
