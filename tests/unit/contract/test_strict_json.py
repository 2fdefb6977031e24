"""Keys that a JSON object has twice."""

import json

import pytest

from contract.strict_json import RepeatedKey, find_repeated_key, once


@pytest.mark.parametrize(
    ("text", "key", "place"),
    [
        ('{"a": 1, "a": 1}', "a", ""),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "b", "a"),
        ('{"rows": [{"x": 1}, {"x": 1, "y": 2, "x": 3}]}', "x", "rows[1]"),
        ('[[{"x": 1, "x": 2}]]', "x", "[0][0]"),
        ('{"a": {"": 1, "": 2}}', "", "a"),
        ('{"\\u0061": 1, "a": 2}', "a", ""),
    ],
)
def test_a_repeated_key_is_found_with_its_place(text: str, key: str, place: str) -> None:
    assert find_repeated_key(text) == RepeatedKey(key, place)
    assert find_repeated_key(text.encode()) == RepeatedKey(key, place)
    with pytest.raises(ValueError, match=f"the key '{key}' is there twice in one object"):
        json.loads(text, object_pairs_hook=once)


@pytest.mark.parametrize(
    "text",
    ['{"a": {"a": 1}}', '[{"a": 1}, {"a": 1}]', '{"a": "{b: 1, b: 2}"}', "{}", "1", "[9e999]"],
)
def test_keys_of_several_objects_are_not_repeated(text: str) -> None:
    assert find_repeated_key(text) is None
    assert json.loads(text, object_pairs_hook=once) == json.loads(text)


def test_numbers_that_python_does_not_convert_do_not_matter() -> None:
    assert find_repeated_key(f'{{"a": {"9" * 5000}}}') is None
