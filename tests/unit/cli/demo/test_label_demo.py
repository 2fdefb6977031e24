"""The label demo's rows, and how it counts wrong labels."""

import random
from pathlib import Path

import numpy as np
import pytest

from cli.demo.digit_rows import BASE_ROWS, CLASSES, TEST_ROWS, DigitRows, write_pipeline
from cli.demo.label_loop import PEOPLE
from cli.demo.labellers import Labeller
from cli.demo.loop_report import Said, worth_in_words, wrong_labels
from contract.loader import load_pipeline
from serving.labels.store.records import Answered


@pytest.fixture(scope="module")
def rows() -> DigitRows:
    return DigitRows.load()


def test_no_image_is_in_two_parts_and_the_truth_of_the_stream_is_known(rows: DigitRows) -> None:
    parts = [{image.tobytes() for image in part[0]} for part in (rows.base, rows.test, rows.stream)]
    assert [len(part) for part in parts[:2]] == [BASE_ROWS, TEST_ROWS]
    assert len(rows.stream[0]) == 9 * (1797 - BASE_ROWS - TEST_ROWS)
    assert not parts[0] & parts[2] and not parts[1] & parts[2]
    for image, label in zip(rows.stream[0][:50], rows.stream[1][:50], strict=True):
        assert rows.truth({"image": image.tolist()}) == str(label)


def test_the_pipeline_is_valid_and_has_a_loop(rows: DigitRows, tmp_path: Path) -> None:
    write_pipeline(tmp_path, rows)
    config = load_pipeline(tmp_path / "asked_digits")
    assert config.labels is not None and config.labels.people == len(PEOPLE)
    lines = (tmp_path / "asked_digits" / "base.csv").read_text().splitlines()
    assert len(lines) == 1 + BASE_ROWS
    image, label = lines[1].split(",")
    assert np.array(image.split(), float).tolist() == rows.base[0][0].ravel().tolist()
    assert label == str(rows.base[1][0])


def test_wrong_labels_are_counted_by_consensus_and_by_majority() -> None:
    """Two people are right in all of forty rows; three agree on a wrong class in two of them."""
    answers, truth = [], {}
    for n in range(40):
        right, place = CLASSES[n % 10], (f"r{n}", "0")
        truth[place] = right
        for who in ("ada", "bob", "cyd", "dan", "eve"):
            is_wrong = n < 2 and who in ("cyd", "dan", "eve")
            said = CLASSES[(n + 1) % 10] if is_wrong else right
            answers.append(Answered(n, f"r{n}", 0, who, said, None, 1, 1.0, 0.0, False, float(n)))
    labels, by_consensus, by_majority = wrong_labels(Said(answers, {}, truth))
    assert (labels, by_majority) == (40, 2)
    assert by_consensus <= 2


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.5, "100 or fewer of random rows"),
        (0.8, "more than 150, at most 200 of random rows"),
        (0.95, "more than 300 of random rows, which reach 90.0%"),
    ],
)
def test_labels_are_worth_as_many_random_ones_as_make_a_model_as_accurate(
    accuracy: float, words: str
) -> None:
    reached = {100: 0.6, 150: 0.7, 200: 0.8, 300: 0.9}
    found = worth_in_words(100, accuracy, reached.__getitem__)
    assert found == f"As accurate as 100 labels of the loops: {words}"


@pytest.mark.parametrize(
    ("ratio", "least", "most"), [(0.0, 0, 0), (0.9, 850, 950), (1.0, 1000, 1000)]
)
def test_a_labeller_is_right_as_often_as_they_can(ratio: float, least: int, most: int) -> None:
    """With 0.9 the bounds are five standard deviations (9.5) from 900."""
    chance = random.Random(1)
    said = [Labeller("ada", ratio).says("3", CLASSES, chance) for _ in range(1_000)]
    assert least <= said.count("3") <= most
    assert {*said} <= {*CLASSES}
