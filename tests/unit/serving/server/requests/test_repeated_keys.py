"""Whether a body has a key twice, from what its parser kept."""

import json
import random
from typing import Any

import orjson
import pytest

import serving.server.requests.repeated_keys as repeated_keys
from contract.strict_json import find_repeated_key
from serving.server.requests.repeated_keys import repeated_key

TEXTS = ["a", ":", "::", 'a":b', "\\:", "\n", "ä:", "", "2020-01-01T12:00"]


def test_random_bodies_are_told_as_by_a_parser_that_sees_all_keys() -> None:
    rng = random.Random(7)
    found = [_is_repeated(_object(rng, 3)) for _ in range(3000)]
    assert 200 < sum(found) < 2800


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"x": 1.5, "y": [1, 2]}, {"x": 2.5, "y": []}]},
        {"inputs": {"x": [1, 2], "y": [[1], [2]]}, "signature_name": "serving_default"},
        {"instances": [1, 2, 3]},
        {"instances": [{"x": "http://a:80", "y": "12:00"}]},
        {"instances": [{"x": {"b64": "aGk="}, "a:b": 1}]},
        {"inputs": [{"name": "x", "data": [1], "parameters": {"binary_data_size": 4}}]},
    ],
)
def test_usual_bodies_are_parsed_once(
    body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated_keys, "find_repeated_key", lambda _text: pytest.fail("parsed"))
    text = orjson.dumps(body)
    assert repeated_key(text, orjson.loads(text)) is None


def _is_repeated(text: str) -> bool:
    found = repeated_key(text.encode(), orjson.loads(text))
    assert found == find_repeated_key(text)
    pairs: list[bool] = []
    json.loads(text, object_pairs_hook=lambda p: pairs.append(len({k for k, _ in p}) < len(p)))
    assert (found is not None) == any(pairs)
    return found is not None


def _object(rng: random.Random, depth: int) -> str:
    keys = [_text(rng, TEXTS + list("pqrstuvw")) for _ in range(rng.randrange(4))]
    return "{" + ", ".join(f"{key}: {_value(rng, depth)}" for key in keys) + "}"


def _value(rng: random.Random, depth: int) -> str:
    kind = rng.randrange(4) if depth else rng.randrange(2)
    if kind == 0:
        return _text(rng, TEXTS)
    if kind == 1:
        return str(rng.choice([1, 2.5, "null", "true"]))
    if kind == 2:
        return "[" + ", ".join(_value(rng, depth - 1) for _ in range(rng.randrange(4))) + "]"
    return _object(rng, depth - 1)


def _text(rng: random.Random, texts: list[str]) -> str:
    written = json.dumps(rng.choice(texts), ensure_ascii=rng.random() < 0.5)
    return written.replace(":", rng.choice([":", ":", "\\u003a", "\\u003A"]))
