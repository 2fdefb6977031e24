"""What the Open Inference Protocol has in common over REST and gRPC, on the service."""

from collections.abc import Iterable, Sequence
from typing import Any

from contract.errors import did_you_mean
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.package import PackageManifest
from contract.wire.open_tensors import datatype_of
from serving.server.core.service import Loaded
from serving.server.engines.engine import TensorInfo
from serving.server.requests.errors import SHOWN_CHARACTERS, InvalidInputError, ModelNotFoundError

SERVER = ("slipway", "2")  # the name, and the version of the protocol
EXTENSIONS = ("binary_tensor_data",)
PLATFORM = "tensorflow_savedmodel"  # what Triton calls it, whichever engine runs it


def version_of(text: str) -> int | None:
    """Return the version that a request names; None if it names none.

    Raises:
        ModelNotFoundError: If it is not a number, as all our versions are.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ModelNotFoundError(f"version: found {text[:SHOWN_CHARACTERS]!r}, expected a number")
    return int(text)


def signature_of(wanted: Any, loaded: Loaded) -> str:
    """Return the signature that the parameter `signature_name` names, or the default one.

    Raises:
        InvalidInputError: If there is none of this name.
    """
    name = wanted or DEFAULT_SIGNATURE
    if type(name) is not str or name not in loaded.array_readers:
        shown, known = repr(name)[:SHOWN_CHARACTERS], ", ".join(map(repr, loaded.array_readers))
        raise InvalidInputError(
            f"parameters.signature_name: found {shown}, expected one of {known}"
        )
    return name


def chosen_outputs(wanted: Sequence[str], outputs: Iterable[str]) -> list[str]:
    """Return the outputs that a request names, in its order; all if it names none.

    Raises:
        InvalidInputError: If the model lacks one of them.
    """
    known = list(outputs)
    for name in wanted:
        if name not in known:
            shown = name[:SHOWN_CHARACTERS]
            hint = did_you_mean(shown, known) or f"; expected {', '.join(map(repr, known))}"
            raise InvalidInputError(f"outputs: unknown output '{shown}'{hint}")
    return list(dict.fromkeys(wanted)) or known


def described(
    loaded: Loaded, manifest: PackageManifest
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the inputs and outputs of the default signature; -1 is any size."""
    signature = loaded.signatures[DEFAULT_SIGNATURE]
    inputs = [
        {
            "name": name,
            "datatype": datatype_of(spec.dtype),
            "shape": [-1, -1] if spec.is_variable_length else [-1, *spec.shape],
        }
        for name, spec in manifest.inputs.items()
    ]
    return inputs, [_output(name, tensor) for name, tensor in signature.outputs.items()]


def _output(name: str, tensor: TensorInfo) -> dict[str, Any]:
    shape = [] if tensor.shape is None else [-1 if n is None else n for n in tensor.shape]
    return {"name": name, "datatype": datatype_of(tensor.dtype), "shape": shape}
