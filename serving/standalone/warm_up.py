"""Replays the requests that a version brings, so that no caller pays for its first optimisations.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc and g3doc/
saved_model_warmup.md: `assets.extra/tf_serving_warmup_requests` holds up to 1,000 PredictionLogs as
TFRecords. A request that fails fails the version: it would fail its callers, too.
"""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from contract.errors import DataError
from contract.wire.tensorflow_serving import PredictionLog
from serving.server.grpc.statuses import CallError
from serving.standalone.inference import (
    CLASSIFY,
    REGRESS,
    Task,
    examples_signature,
    fed,
    fed_examples,
    predict_signature,
    wanted_outputs,
)
from serving.standalone.messages import arrays_of, examples_of
from serving.standalone.opening import OpenedModel

log = logging.getLogger("slipway")

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
_MOST_RECORDS = 1000
_HEAD_BYTES, _CHECKSUM_BYTES = 12, 4  # a length of 8 bytes, and a checksum of 4


def warm_up(model: OpenedModel, folder: Path, iterations: int) -> None:
    """Replay what is in a version's folder; nothing if it brings no requests.

    Args:
        model: The version, loaded.
        folder: Of the version.
        iterations: How often each request is replayed, at least 1.

    Raises:
        DataError: If the file is broken, too long, or a request fails.
    """
    file = folder / REQUESTS
    if not file.is_file():
        return
    count = 0
    for count, record in enumerate(_records(file), 1):
        if count > _MOST_RECORDS:
            raise DataError(f"{file}: more than {_MOST_RECORDS:,} warm-up requests")
        try:
            request = PredictionLog.FromString(record)
            for _ in range(iterations):
                _replay(model, request)
        except DecodeError as error:
            raise DataError(f"{file}: record {count} is not a PredictionLog") from error
        except CallError as error:
            raise DataError(f"{file}: request {count} fails: {error}") from error
    log.info("%s: %d warm-up requests", folder, count)


def _replay(model: OpenedModel, record: Any) -> None:
    kind = record.WhichOneof("log_type")
    if kind is None:
        raise DecodeError("a record of another kind")
    request = getattr(record, kind).request
    if kind == "predict_log":
        signature = predict_signature(model.signatures, request.model_spec)
        outputs = wanted_outputs(signature, request.output_filter)
        tensors = [signature.outputs[name].name for name in outputs]
        model.run(fed(signature, arrays_of(request.inputs)), tensors)
        return
    tasks = [Task(one.model_spec, one.method_name) for one in getattr(request, "tasks", ())]
    if kind != "multi_inference_log":
        tasks = [Task(request.model_spec, CLASSIFY if kind == "classify_log" else REGRESS)]
    signatures = [examples_signature(model.signatures, task) for task in tasks]
    model.run(*fed_examples(signatures, examples_of(request.input)))


def _records(file: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; their checksums are not looked at."""
    with file.open("rb") as stream:
        while head := stream.read(_HEAD_BYTES):
            (size,) = struct.unpack("<Q", head[:8]) if len(head) == _HEAD_BYTES else (-1,)
            rest = stream.read(size + _CHECKSUM_BYTES) if 0 <= size < file.stat().st_size else b""
            if len(rest) != size + _CHECKSUM_BYTES:
                raise DataError(f"{file}: cut off, or not a TFRecord file")
            yield rest[:size]
