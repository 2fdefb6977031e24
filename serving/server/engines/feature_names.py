"""A model's inputs by the names that callers use, whatever the model's own file calls them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from contract.feature_names import legal_names
from contract.model_io import DEFAULT_SIGNATURE
from serving.server.engines.engine import Columns, Outputs, ServedModel, Signature


def by_callers_names(model: ServedModel, inputs: Iterable[str]) -> ServedModel:
    """Return a model whose `serving_default` takes the inputs by the names given.

    The model itself where its signature has other inputs than their legal names, or where these
    are the names given, as it is with ordinary ones.
    """
    legal = legal_names(inputs)
    found = model.signatures.get(DEFAULT_SIGNATURE)
    is_made_of_them = found is not None and found.inputs.keys() == set(legal.values())
    if not is_made_of_them or legal.keys() == set(legal.values()):
        return model
    return _Renamed(model, legal)


class _Renamed:
    """A model behind names of callers."""

    def __init__(self, model: ServedModel, legal: Mapping[str, str]) -> None:
        self._model, self._legal = model, dict(legal)
        signature = model.signatures[DEFAULT_SIGNATURE]
        names = {own: name for name, own in self._legal.items()}
        inputs = {names.get(own, own): tensor for own, tensor in signature.inputs.items()}
        self._signatures = {
            **model.signatures,
            DEFAULT_SIGNATURE: replace(signature, inputs=inputs),
        }

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def call(self, signature: str, columns: Columns) -> Outputs:
        if signature == DEFAULT_SIGNATURE:
            columns = {self._legal[name]: column for name, column in columns.items()}
        return self._model.call(signature, columns)
