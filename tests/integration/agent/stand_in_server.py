"""A small stand-in for the model server: the same command line and health, any behaviour.

It does what `<package>/behaviour.json` says: `delay_seconds`, `error_every` (each n-th prediction
fails), `refused_every` (each n-th gets a 400), `exit_code` (dies at its start), `start_seconds`,
`start_file` (is ready when that is there), `answer` (the class index it predicts).
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[3]))

from contract.records.package import PackageManifest
from serving.server.core.hourly_files import FlushRule
from serving.server.core.prediction_columns import Answer
from serving.server.core.prediction_log import PredictionLog

parser = argparse.ArgumentParser()
for flag in ("--package", "--host", "--port", "--predictions", "--token-file"):
    parser.add_argument(flag, required=True)
options = parser.parse_args()
package = Path(options.package)
behaviour = json.loads((package / "behaviour.json").read_text())
manifest = PackageManifest.read(package / "package.json")
version = manifest.version
expected = b"Bearer " + Path(options.token_file).read_bytes()
numbers = itertools.count(1)
under_way = 0
most_under_way = 0
started = time.monotonic()

if "exit_code" in behaviour:
    sys.stderr.write("the stand-in was told to end\n")
    sys.exit(behaviour["exit_code"])

log = PredictionLog(Path(options.predictions), manifest, print, FlushRule(seconds=0.1))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    size, has_more = 0, True
    while has_more:
        message = await receive()
        size, has_more = size + len(message.get("body", b"")), message.get("more_body", False)
    is_loaded = time.monotonic() - started >= behaviour.get("start_seconds", 0.0)
    is_loaded = is_loaded and Path(behaviour.get("start_file", "/")).exists()
    headers = [(b"x-slipway-version", str(version).encode())]
    status: int = 200
    answer: dict[str, Any] = {"status": "serving"}
    if scope["path"] == "/most":
        answer = {"most": most_under_way}
    elif not is_loaded:
        status, answer = 503, {"error": "loading"}
        headers.append((b"x-slipway-loading", b"1"))
    elif scope["path"] != "/healthz" and dict(scope["headers"]).get(b"authorization") != expected:
        status, answer = 401, {"error": "another token was expected"}
    elif scope["path"] != "/healthz":
        status, answer = await predict(dict(scope["headers"]), size)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def predict(headers: dict[bytes, bytes], size: int) -> tuple[int, dict[str, Any]]:
    global under_way, most_under_way
    under_way += 1
    most_under_way = max(most_under_way, under_way)
    try:
        await asyncio.sleep(behaviour.get("delay_seconds", 0.0))
    finally:
        under_way -= 1
    if "error_every" in behaviour and next(numbers) % behaviour["error_every"] == 0:
        return 500, {"error": "told to fail"}
    if "refused_every" in behaviour and next(numbers) % behaviour["refused_every"] == 0:
        return 400, {"error": "told to refuse"}
    request_id = headers[b"x-request-id"].decode()
    predicted = behaviour.get("answer", 0)
    scores = np.zeros((1, 10), np.float32)
    scores[0, predicted] = 1.0
    arm, outputs = headers.get(b"x-slipway-arm", b""), {"scores": scores}
    log.add(Answer(headers[b"x-request-id"], arm, "serving_default", time.time(), 0.0, outputs))
    seen = {
        "id": request_id,
        "has_token": headers.get(b"authorization") != expected,
        "size_bytes": size,
    }
    return 200, {"predictions": [predicted], **seen}


uvicorn.run(app, host=options.host, port=int(options.port), log_level="warning")
log.close()
