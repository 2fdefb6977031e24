"""Predict, Classify, Regress and MultiInference on any signature, in the terms of no protocol.

Source, for what is checked and in which words: tensorflow_serving/servables/tensorflow/
{predict_util,classifier,regressor,multi_inference}.cc.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import StatusCode

from contract.model_io import DEFAULT_SIGNATURE
from contract.wire.tensors import DATA_TYPES, array_of
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.spans import Spans
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import SHOWN_CHARACTERS
from serving.standalone.calls import Call
from serving.standalone.limits import Limits
from serving.standalone.servables import Servables, Version

Array = np.ndarray[Any, Any]
Reader = Callable[[Any], Mapping[str, Array]]

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_METHODS = ("tensorflow/serving/predict", CLASSIFY, REGRESS)
_NO_LIMITS = Limits()
_BFLOAT16 = DATA_TYPES["bfloat16"]
_NAMES = {number: name for name, number in DATA_TYPES.items()}


@dataclass(frozen=True)
class Asked:
    """What a call of Predict asks.

    Attributes:
        spec: The ModelSpec.
        read: Returns the inputs by name, given the SignatureDef.
        wanted: The outputs to answer; all if empty.
        is_large: Whether reading takes long enough for a thread.
    """

    spec: Any
    read: Reader
    wanted: Sequence[str] = ()
    is_large: bool = False


@dataclass(frozen=True)
class Answered:
    """What answered, and with what: outputs by name, or a result for each example."""

    version: int
    signature: str
    found: Any


@dataclass(frozen=True)
class Task:
    """One of the things that MultiInference asks for."""

    spec: Any
    method: str


class Inference:
    """All predictions of a process.

    Attributes:
        limits: Of each request.
        log: Where fronts write what they have answered, once it is there.
    """

    def __init__(
        self,
        servables: Servables,
        *,
        checks_method_names: bool = False,
        limits: Limits = _NO_LIMITS,
    ) -> None:
        """With `checks_method_names`, Classify and Regress want signatures made for them."""
        self.servables, self.limits = servables, limits
        self.log: PredictionLog | None = None
        self._checks_method_names = checks_method_names

    async def predict(self, asked: Asked, call: Call) -> Answered:
        """Return the outputs of a signature by name.

        Raises:
            CallError, ServingError: If they cannot be had.
        """
        with self.servables.use(asked.spec) as version:
            signature = predict_signature(_signatures(version), asked.spec)
            self._check_predict(signature)
            if asked.is_large:
                given = await asyncio.to_thread(asked.read, signature)
            else:
                given = asked.read(signature)
            self.limits.check_arrays(signature, given)
            inputs = fed(signature, given)
            wanted = wanted_outputs(signature, asked.wanted)
            tensors = [signature.outputs[one].name for one in wanted]
            found = await _run(version, inputs, tensors, call)
        name = asked.spec.signature_name or DEFAULT_SIGNATURE
        outputs = dict(zip(wanted, found, strict=True))
        call.note(name, outputs, _rows(inputs), given)
        return Answered(version.number, name, outputs)

    async def classify(self, spec: Any, examples: Sequence[bytes], call: Call) -> Answered:
        """Return, for each example, its classes as (label, score).

        Raises:
            CallError, ServingError: If they cannot be had.
        """
        (answered,) = await self.infer([Task(spec, CLASSIFY)], examples, call)
        return answered

    async def regress(self, spec: Any, examples: Sequence[bytes], call: Call) -> Answered:
        """Return a number for each example.

        Raises:
            CallError, ServingError: If they cannot be had.
        """
        (answered,) = await self.infer([Task(spec, REGRESS)], examples, call)
        return answered

    async def infer(
        self, tasks: Sequence[Task], examples: Sequence[bytes], call: Call
    ) -> list[Answered]:
        """Return what each task asks for, from one run of the graph.

        Raises:
            CallError, ServingError: If it cannot be had.
        """
        _check_tasks(tasks)
        self.limits.check_examples(len(examples))
        with self.servables.use(tasks[0].spec) as version:
            known, checks = _signatures(version), self._checks_method_names
            signatures = [examples_signature(known, task, checks_method=checks) for task in tasks]
            inputs, tensors = fed_examples(signatures, examples)
            found = await _run(version, inputs, tensors, call)
        by_name, answers = dict(zip(tensors, found, strict=True)), []
        for task, signature in zip(tasks, signatures, strict=True):
            name = task.spec.signature_name or DEFAULT_SIGNATURE
            outputs = {one: by_name[info.name] for one, info in signature.outputs.items()}
            result = _result(task.method, outputs, len(examples))
            call.note(name, outputs, len(examples), examples)
            answers.append(Answered(version.number, name, result))
        return answers

    def _check_predict(self, signature: Any) -> None:
        if self._checks_method_names and signature.method_name not in _METHODS:
            raise CallError(
                StatusCode.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}."
                f" Was: {signature.method_name}",
            )


def predict_signature(signatures: Mapping[str, Any], spec: Any) -> Any:
    """Return the signature that a Predict names.

    Raises:
        CallError: If there is none of that name.
    """
    name = spec.signature_name or DEFAULT_SIGNATURE
    if (found := signatures.get(name)) is None:
        raise CallError(
            StatusCode.FAILED_PRECONDITION, f'Serving signature key "{_shown(name)}" not found.'
        )
    return found


def examples_signature(
    signatures: Mapping[str, Any], task: Task, *, checks_method: bool = False
) -> Any:
    """Return the signature that a Classify or Regress names; one made for it if that is checked.

    Raises:
        CallError: If there is none of that name, or it takes or answers something else.
    """
    name = task.spec.signature_name or DEFAULT_SIGNATURE
    if (found := signatures.get(name)) is None:
        raise _invalid(f"No signature was found with the name: {_shown(name)}")
    if checks_method and found.method_name != task.method:
        raise _invalid(
            f"Expected {_kind(task)} signature method_name to be {task.method}. Was: "
            f"{found.method_name}"
        )
    if set(found.inputs) != {"inputs"}:
        raise _invalid(f"No {_kind(task)} inputs found in SignatureDef: {sorted(found.inputs)}")
    expected = {"classes", "scores"} if task.method == CLASSIFY else {"outputs"}
    if not found.outputs or not set(found.outputs) <= expected:
        raise _invalid(
            f"Expected {_kind(task)} signature outputs to be among {sorted(expected)}, found "
            f"{sorted(found.outputs)}"
        )
    return found


def fed_examples(
    signatures: Sequence[Any], examples: Sequence[bytes]
) -> tuple[dict[str, Array], list[str]]:
    """Return what is fed to a graph, and what is asked of it, for serialized tf.Examples.

    Raises:
        CallError: If there are none.
    """
    if not examples:
        raise _invalid("Input is empty.")
    serialized = np.empty(len(examples), object)
    serialized[:] = examples
    inputs = {one.inputs["inputs"].name: serialized for one in signatures}
    return inputs, sorted({o.name for one in signatures for o in one.outputs.values()})


def _kind(task: Task) -> str:
    return "classification" if task.method == CLASSIFY else "regression"


def _signatures(version: Version) -> Mapping[str, Any]:
    assert version.opened is not None
    return version.opened.signatures


async def _run(
    version: Version, inputs: Mapping[str, Array], tensors: Sequence[str], call: Call
) -> list[Array]:
    assert version.runner is not None
    call.spans = Spans()
    return await version.runner.run(inputs, tensors, call.expires_at, call.spans)


def fed(signature: Any, given: Mapping[str, Array]) -> dict[str, Array]:
    """Return the inputs by the names of their tensors, those that are missing by their default.

    Raises:
        CallError: If one is missing, unknown or of another type.
    """
    missing = signature.inputs.keys() - given.keys()
    extra = given.keys() - signature.inputs.keys()
    if extra or missing - signature.defaults.keys():
        raise _invalid(
            f"input size does not match signature: {len(given)}!={len(signature.inputs)} "
            f"len({_set(given)}) != len({_set(signature.inputs)}). Sent extra: {_set(extra)}. "
            f"Missing but required: {_set(missing)}."
        )
    whole = {**given, **{n: array_of(signature.defaults[n], 1 << 31) for n in missing}}
    return {
        info.name: _typed(name, whole[name], info.dtype)
        for name, info in sorted(signature.inputs.items())
    }


def _typed(name: str, array: Array, expected: int) -> Array:
    """Return an array of the type that an input has; TensorFlow would say less of another one."""
    if expected == _BFLOAT16 and array.dtype == np.float32:
        return array.astype("bfloat16")
    found = "string" if array.dtype.kind in "OSU" else array.dtype.name
    if DATA_TYPES.get(found) != expected:
        raise _invalid(
            f"input '{_shown(name)}': found {found}, expected {_NAMES.get(expected, expected)}"
        )
    return array


def wanted_outputs(signature: Any, wanted: Sequence[str]) -> list[str]:
    """Return the outputs that a filter names; all if it names none.

    Raises:
        CallError: If it names one that does not exist, or one twice.
    """
    for index, name in enumerate(wanted):
        if name not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {_shown(name)} Outputs expected to "
                f"be in the set {_set(signature.outputs)}."
            )
        if name in wanted[:index]:
            raise _invalid(f"duplicate output tensor alias: {name}")
    return list(wanted) or sorted(signature.outputs)


def _check_tasks(tasks: Sequence[Task]) -> None:
    names = [task.spec.signature_name or DEFAULT_SIGNATURE for task in tasks]
    if not tasks or not all(task.spec.name for task in tasks):
        raise _invalid("Found ModelSpec with an empty model name.")
    if len({task.spec.name for task in tasks}) > 1:
        raise _invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    for index, (task, name) in enumerate(zip(tasks, names, strict=True)):
        if name in names[:index]:
            raise _invalid(f"Duplicate evaluation of signature: {_shown(name)}")
        if task.method not in (CLASSIFY, REGRESS):
            raise CallError(
                StatusCode.UNIMPLEMENTED,
                f"Unsupported signature method_name: {_shown(task.method)}",
            )


def _rows(inputs: Mapping[str, Array]) -> int:
    first = next(iter(inputs.values()), None)
    return len(first) if first is not None and first.ndim else 0


def _result(method: str, outputs: Mapping[str, Array], count: int) -> Any:
    return _classes(outputs, count) if method == CLASSIFY else _values(outputs["outputs"], count)


def _classes(arrays: Mapping[str, Array], count: int) -> list[list[tuple[str, float]]]:
    """Return for each example (label, score); what the signature has not is empty or 0."""
    for name, kind in (("classes", "O"), ("scores", "f")):
        if name in arrays:
            _check_shape(name, arrays[name], kind, count)
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise _invalid(f"Tensors class and score should match in dim_size(1). Got {shapes}")
    shape = next(iter(shapes))
    labels = arrays.get("classes", np.full(shape, b"", object)).tolist()
    scores = arrays.get("scores", np.zeros(shape, np.float32)).tolist()
    return [
        [(_text(label), score) for label, score in zip(*pair, strict=True)]
        for pair in zip(labels, scores, strict=True)
    ]


def _check_shape(name: str, array: Array, kind: str, count: int) -> None:
    if array.ndim != 2:
        raise _invalid(
            f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}"
        )
    if array.dtype.kind != kind:
        expected = "DT_STRING" if kind == "O" else "DT_FLOAT"
        raise _invalid(f"Expected {name} Tensor of {expected}. Got: {array.dtype.name}")
    if len(array) != count:
        raise _invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")


def _values(array: Array, count: int) -> list[float]:
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise _invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(array.shape)}"
        )
    if len(array) != count:
        raise _invalid(
            f"Input batch size did not match output batch size: {count} vs. {len(array)}"
        )
    if array.dtype != np.float32:
        raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype.name}")
    return list(array.ravel().tolist())


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _set(names: Any) -> str:
    return "{" + ",".join(map(_shown, sorted(names))) + "}"


def _shown(text: str) -> str:
    return str(text[:SHOWN_CHARACTERS])


def _invalid(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
