"""TensorFlow Serving's PredictionService.

Source: tensorflow_serving/apis/prediction_service.proto. `classify` and `regress` name a head by
`signature_name`, as over REST.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from contract.errors import did_you_mean
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE
from contract.records.package import InputSpec
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import array_of, filled_bytes, write_tensor
from serving.server.core.asked import Asked
from serving.server.core.model import limits_of
from serving.server.core.service import Head, PredictService
from serving.server.engines.engine import Columns, Outputs, RefusedInputError
from serving.server.engines.examples import ExamplesParser
from serving.server.grpc.calls import Call, Calls, Method
from serving.server.grpc.metadata import signature_defs
from serving.server.requests.arrays import ArrayReader
from serving.server.requests.errors import (
    SHOWN_CHARACTERS,
    InvalidInputError,
    TooLargeError,
)

SERVICE = "tensorflow.serving.PredictionService"

_METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}


class PredictionService:
    """The methods of the service, for one version of one model."""

    def __init__(self, service: PredictService, calls: Calls) -> None:
        self._service, self._calls = service, calls
        manifest = service.manifest
        self._most_bytes = int(manifest.serve.max_body_mb * 2**20)
        self._most_rows = manifest.serve.max_request_rows
        self._parser = ExamplesParser(manifest.inputs)
        texts = {"examples": InputSpec(dtype="string")}
        self._examples = ArrayReader(texts, limits_of(manifest, EXAMPLES_SIGNATURE))

    def methods(self) -> dict[str, Method]:
        """Return the methods by their names."""
        return {
            "Predict": self._predict,
            "Classify": self._classify,
            "Regress": self._regress,
            "MultiInference": self._multi_inference,
            "GetModelMetadata": self._metadata,
        }

    # --- Predict --------------------------------------------------------------------------------

    async def _predict(self, call: Call) -> bytes:
        request = await self._read(call, wire.PredictRequest)
        filled = sum(map(filled_bytes, request.inputs.values()))
        size = len(call.message) + filled
        asked, wanted = await self._calls.beside(size, partial(self._asked, request, filled))
        outputs = await self._calls.predicted(call, asked)
        size = sum(outputs[name].nbytes for name in wanted)
        written = partial(self._written, asked.signature, {name: outputs[name] for name in wanted})
        answer = await self._calls.beside(size, written)
        self._service.note_answer(call.caller, asked, outputs)
        return answer

    async def _read(self, call: Call, kind: Any) -> Any:
        return await self._calls.beside(len(call.message), partial(call.read, kind))

    def _asked(self, request: Any, filled: int) -> tuple[Asked, list[str]]:
        """Return what a Predict asks for, and the outputs that it wants.

        Single values of its tensors stand for `filled` bytes.
        """
        spec = self._found(request.model_spec)
        loaded = self._service.begin()
        readers = loaded.array_readers
        signature = _signature(spec.signature_name, readers)
        wanted = _filtered(request.output_filter, loaded.signatures[signature].outputs)
        arrays = self._arrays(request.inputs, filled)
        return Asked(signature, readers[signature].read(arrays), "inputs"), wanted

    def _written(self, signature: str, outputs: Outputs) -> bytes:
        answer = wire.PredictResponse()
        for name, array in outputs.items():
            write_tensor(answer.outputs[name], array)
        self._fill(answer.model_spec, signature)
        return bytes(answer.SerializeToString())

    def _arrays(self, inputs: Mapping[str, Any], filled: int) -> dict[str, "np.ndarray[Any, Any]"]:
        """Return tensors as arrays.

        Raises:
            InvalidInputError: If one is broken.
            TooLargeError: If single values stand for more than a whole request may be: a small
                message with many inputs can ask for gigabytes.
        """
        if filled > self._most_bytes:
            raise TooLargeError(
                f"inputs: single values stand for more than {self._most_bytes:,} bytes of the "
                "tensors; send several requests"
            )
        return {name: self._array(name, tensor) for name, tensor in inputs.items()}

    def _array(self, name: str, tensor: Any) -> "np.ndarray[Any, Any]":
        try:
            return array_of(tensor, self._most_bytes)
        except ValueError as error:
            raise InvalidInputError(f"inputs.{name[:SHOWN_CHARACTERS]}: {error}") from error

    # --- Classify, Regress, MultiInference ------------------------------------------------------

    async def _classify(self, call: Call) -> bytes:
        answer = wire.ClassificationResponse()
        head, outputs, name = await self._one_head("classify", call, wire.ClassificationRequest)
        _write_classes(answer.result, head, outputs)
        self._fill(answer.model_spec, name)
        return bytes(answer.SerializeToString())

    async def _regress(self, call: Call) -> bytes:
        answer = wire.RegressionResponse()
        head, outputs, name = await self._one_head("regress", call, wire.RegressionRequest)
        _write_values(answer.result, head, outputs)
        self._fill(answer.model_spec, name)
        return bytes(answer.SerializeToString())

    async def _one_head(self, method: str, call: Call, kind: Any) -> tuple[Head, Outputs, str]:
        """Return the head that a request of this kind names, the outputs, and the name."""

        request = await self._read(call, kind)

        def read() -> tuple[Head, Asked, str]:
            name = self._found(request.model_spec).signature_name
            self._service.begin()
            head = self._service.head_of(method, name)
            return head, self._asked_examples(request.input), name

        size = len(call.message) + _copied_bytes(request.input)
        head, asked, name = await self._calls.beside(size, read)
        return head, await self._answered(call, asked), name

    async def _multi_inference(self, call: Call) -> bytes:
        """Answer several heads from one call of the model."""
        request = await self._read(call, wire.MultiInferenceRequest)
        size = len(call.message) + _copied_bytes(request.input)
        heads, asked = await self._calls.beside(size, partial(self._asked_heads, request))
        outputs = await self._answered(call, asked)
        answer = wire.MultiInferenceResponse()
        for method, head, name in heads:
            result = answer.results.add()
            self._fill(result.model_spec, name)
            if method == "classify":
                _write_classes(result.classification_result, head, outputs)
            else:
                _write_values(result.regression_result, head, outputs)
        return bytes(answer.SerializeToString())

    def _asked_heads(self, request: Any) -> tuple[list[tuple[str, Head, str]], Asked]:
        """Return the method, the head and its name in the request of each task."""
        if not request.tasks:
            raise InvalidInputError("tasks: found none, expected at least one")
        heads = [self._task(index, task) for index, task in enumerate(request.tasks)]
        self._service.begin()
        return heads, self._asked_examples(request.input)

    def _task(self, index: int, task: Any) -> tuple[str, Head, str]:
        self._found(task.model_spec)
        if (method := _METHODS.get(task.method_name)) is None:
            raise InvalidInputError(
                f"tasks[{index}].method_name: found {task.method_name[:SHOWN_CHARACTERS]!r}, "
                f"expected one of {', '.join(map(repr, _METHODS))}"
            )
        name = task.model_spec.signature_name
        return method, self._service.head_of(method, name), name

    def _asked_examples(self, given: Any) -> Asked:
        return Asked(DEFAULT_SIGNATURE, self._columns(given), "examples")

    async def _answered(self, call: Call, asked: Asked) -> Outputs:
        outputs = await self._calls.predicted(call, asked)
        self._service.note_answer(call.caller, asked, outputs)
        return outputs

    def _columns(self, given: Any) -> Columns:
        """Return the columns of tf.Examples, checked as those of Predict are."""
        rows = [example.SerializeToString() for example in self._examples_of(given)]
        if not rows:
            raise InvalidInputError("input: found no examples, expected at least one")
        serialized = np.empty(len(rows), object)
        serialized[:] = rows
        checked = self._examples.read({"examples": serialized})["examples"]
        try:
            columns = self._parser(checked)
        except RefusedInputError as error:
            raise InvalidInputError(f"input: {error}") from error
        return self._service.ready().array_readers[DEFAULT_SIGNATURE].read(columns)

    def _examples_of(self, given: Any) -> Sequence[Any]:
        """Return the examples of an Input, each with the features of the context that it lacks.

        Raises:
            TooLargeError: If there are more than a request may have, or copies of the context would
                be larger than a whole request may be: a small message can ask for gigabytes.
        """
        has_context = given.WhichOneof("kind") == "example_list_with_context"
        held = given.example_list_with_context if has_context else given.example_list
        count = len(held.examples)
        if count > self._most_rows:
            raise TooLargeError(
                f"input: found {count:,} examples, at most {self._most_rows:,} are accepted in a "
                "request (serve.max_batch_size x serve.max_enqueued_batches); send several"
            )
        if not has_context:
            return list(held.examples)
        if (size := held.context.ByteSize()) * count > self._most_bytes:
            raise TooLargeError(
                f"input: found {count:,} examples with a context of {size:,} bytes, at most "
                f"{self._most_bytes:,} bytes are accepted in a request; send several"
            )
        return _with_context(held)

    # --- metadata, and what all have in common --------------------------------------------------

    async def _metadata(self, call: Call) -> bytes:
        request = call.read(wire.GetModelMetadataRequest)
        self._found(request.model_spec)
        if list(request.metadata_field) != [wire.SIGNATURE_FIELD]:
            raise InvalidInputError(
                f"metadata_field: found {list(request.metadata_field)[:5]}, expected "
                f"['{wire.SIGNATURE_FIELD}']"
            )
        answer = wire.GetModelMetadataResponse()
        self._fill(answer.model_spec, "")
        answer.metadata[wire.SIGNATURE_FIELD].Pack(signature_defs(self._service.ready().signatures))
        return bytes(answer.SerializeToString())

    def _found(self, spec: Any) -> Any:
        """Return a ModelSpec that means this server; see PredictService.find."""
        if not spec.name:
            raise InvalidInputError(
                f"model_spec.name: missing; expected '{self._service.manifest.pipeline}'"
            )
        version = spec.version.value if spec.HasField("version") else None
        self._service.find(spec.name, version, spec.version_label)
        return spec

    def _fill(self, spec: Any, signature: str) -> None:
        spec.name = self._service.manifest.pipeline
        spec.version.value = self._service.manifest.version
        spec.signature_name = signature or DEFAULT_SIGNATURE


def _signature(wanted: str, readers: Iterable[str]) -> str:
    """Return the signature of a Predict."""
    name, known = wanted or DEFAULT_SIGNATURE, list(readers)
    if name not in known:
        shown, names = name[:SHOWN_CHARACTERS], ", ".join(map(repr, known))
        raise InvalidInputError(f"signature_name: found {shown!r}, expected one of {names}")
    return name


def _filtered(wanted: Sequence[str], outputs: Mapping[str, Any]) -> list[str]:
    """Return the outputs that `output_filter` names; all if it names none."""
    for name in wanted:
        if name not in outputs:
            shown = name[:SHOWN_CHARACTERS]
            hint = did_you_mean(shown, outputs) or f"; expected {', '.join(map(repr, outputs))}"
            raise InvalidInputError(f"output_filter: unknown output '{shown}'{hint}")
    return list(dict.fromkeys(wanted)) or list(outputs)


def _copied_bytes(given: Any) -> int:
    """Return how large all copies of an Input's context would be, one for each example."""
    if given.WhichOneof("kind") != "example_list_with_context":
        return 0
    held = given.example_list_with_context
    return int(held.context.ByteSize()) * len(held.examples)


def _with_context(shared: Any) -> list[Any]:
    """Return examples, each with the features of their context that it lacks."""
    whole = []
    for example in shared.examples:
        one = wire.Example()
        one.CopyFrom(shared.context)
        for name, feature in example.features.feature.items():
            one.features.feature[name].CopyFrom(feature)
        whole.append(one)
    return whole


def _write_classes(result: Any, head: Head, outputs: Outputs) -> None:
    for row in outputs[head.output].tolist():
        classes = result.classifications.add().classes
        for label, score in zip(head.config.classes, row, strict=True):
            classes.add(label=label, score=score)


def _write_values(result: Any, head: Head, outputs: Outputs) -> None:
    for value in outputs[head.output].tolist():
        result.regressions.add(value=value)
