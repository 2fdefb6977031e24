"""Inputs as pictures, texts and a table, and the keys of the answers."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.labels.page.keys import choices
from serving.labels.page.limits import Limit
from serving.labels.page.shown import shown

GRID = {"image": {"shape": [2, 3]}}


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_numbers_of_a_grid_are_drawn_from_black_to_white() -> None:
    (picture,) = shown({"image": [[0.0, 8, 16], [4, 0, 16]]}, GRID).pictures
    assert decoded(picture.source).tolist() == [[0, 128, 255], [64, 0, 255]]
    assert (picture.words, picture.is_drawn) == ("image: picture of 3 by 2 pixels", True)


def test_three_numbers_of_a_pixel_are_its_colour() -> None:
    inputs = {"image": [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]]}
    (picture,) = shown(inputs, {"image": {"shape": [2, 2, 3]}}).pictures
    assert decoded(picture.source).tolist() == inputs["image"]


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], [["a"] * 3] * 2, None, [[None] * 3] * 2, []])
def test_what_is_no_picture_is_told_in_the_table(value: Any) -> None:
    found = shown({"image": value}, GRID)
    assert found.pictures == []
    assert found.cells == [("image", "no picture: expected numbers of shape [2, 3]")]


def test_bytes_of_a_picture_are_left_to_the_browser_and_others_are_told() -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    good, bad = (base64.b64encode(one).decode() for one in (file.getvalue(), b"\0\1\2"))
    found = shown({"photo": {"base64": good}, "other": {"base64": bad}, "odd": {"base64": "?"}}, {})
    assert found.pictures[0].source == f"data:image/png;base64,{good}"
    assert found.cells == [
        ("other", "3 bytes that are neither text nor a picture"),
        ("odd", "0 bytes that are neither text nor a picture"),
    ]


def test_long_text_is_read_and_the_rest_is_a_table() -> None:
    found = shown({"review": "x" * 61, "age": 30, "words": ["a", "b"], "fee": 0.5, "job": None}, {})
    assert found.texts == [("review", "x" * 61)]
    assert found.cells == [("age", "30"), ("words", "a, b"), ("fee", "0.5"), ("job", "–")]


def test_a_class_of_one_character_has_its_own_key() -> None:
    large, others = choices("0123", [("3", 0.5), ("1", 0.4), ("0", 0.1)])
    assert [(c.label, c.key, c.arrow) for c in large] == [
        ("3", "3", "ArrowLeft"),
        ("1", "1", "ArrowRight"),
    ]
    assert [(c.label, c.key) for c in others] == [("0", "0"), ("2", "2")]


def test_other_classes_have_keys_in_their_order_while_there_are_any() -> None:
    classes = [f"class {n}" for n in range(40)]
    large, others = choices(classes, [("class 9", 0.5), ("unknown", 0.5)])
    assert [(c.label, c.key) for c in large] == [("class 9", "0")]
    keys = [c.key for c in others]
    assert keys[:10] == [*"123456789", "a"]
    assert keys[-4:] == [""] * 4


def test_a_bucket_is_filled_steadily_up_to_its_size() -> None:
    limit = Limit(per_second=2, burst=2)
    assert [limit.wait_seconds("a", 10.0) for _ in range(3)] == [0, 0, 0.5]
    assert limit.wait_seconds("a", 10.5) == 0
    assert limit.wait_seconds("a", 10.6) == pytest.approx(0.4)
    assert [limit.wait_seconds("a", 99.0) for _ in range(3)] == [0, 0, 0.5]
    assert limit.wait_seconds("b", 10.0) == 0
