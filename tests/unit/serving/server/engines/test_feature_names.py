"""Callers' names of inputs in front of a model that has legal ones."""

import numpy as np

from contract.feature_names import legal_names
from serving.server.engines.engine import Columns, Outputs, Signature, TensorInfo
from serving.server.engines.feature_names import by_callers_names

NAMES = ("sepal length", "Age", "age")


class Legal:
    """An engine with legal names, which answers `Age - age`."""

    def __init__(self) -> None:
        tensors = {
            name: TensorInfo(name, "float32", (None,)) for name in legal_names(NAMES).values()
        }
        examples = {"examples": TensorInfo("examples", "string", (None,))}
        self.signatures = {
            "serving_default": Signature(tensors, {}),
            "serving_examples": Signature(examples, {}),
        }

    def call(self, signature: str, columns: Columns) -> Outputs:
        if signature == "serving_examples":
            return {"rows": columns["examples"]}
        legal = legal_names(NAMES)
        return {"value": columns[legal["Age"]] - columns[legal["age"]]}


def test_callers_use_their_own_names() -> None:
    model = by_callers_names(Legal(), NAMES)
    assert set(model.signatures["serving_default"].inputs) == set(NAMES)
    columns = {"sepal length": np.zeros(1), "Age": np.array([5.0]), "age": np.array([3.0])}
    assert model.call("serving_default", columns)["value"].tolist() == [2.0]


def test_examples_go_to_the_model_as_they_are() -> None:
    model = by_callers_names(Legal(), NAMES)
    examples = np.array([b"x"], object)
    assert model.call("serving_examples", {"examples": examples})["rows"] is examples


def test_a_model_with_other_inputs_stays_as_it_is() -> None:
    engine = Legal()
    assert by_callers_names(engine, ()) is engine
    assert by_callers_names(engine, ("x",)) is engine
    assert by_callers_names(engine, legal_names(NAMES).values()) is engine
