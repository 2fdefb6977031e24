from datetime import UTC, datetime

import pyarrow as pa
import pytest

from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import merge, write_rows
from contract.schema.data import HeadConfig
from serving.agent.disagreement import DisagreementCounter, differing_share

REFUSED = "refused"
HEADS = {
    "digit": HeadConfig(task="multiclass_classification", classes=tuple("0123456789")),
    "price": HeadConfig(task="regression"),
}
COMMON = {
    "time": datetime.now(UTC),
    "version": 1,
    "arm": "",
    "signature": "serving_default",
    "latency_seconds": 0.001,
}


@pytest.fixture
def logs(tmp_path):
    return lambda version: tmp_path / "predictions" / str(version[1])


@pytest.fixture
def counter(tmp_path, logs) -> DisagreementCounter:
    return DisagreementCounter(tmp_path / "pairs", logs)


@pytest.fixture
def write(logs):
    """Return a function that adds a file: `write(1, {"a": 3})` is class 3 for request a.

    REFUSED instead of a class is a request that the version refused. Files of one server are
    numbered by their rows, as a server does; the first of them has the rows 0, 1 and so on.
    """
    ends: dict[tuple[int, str], int] = {}

    def write_file(version: int, answers: dict[str, object], server: str = "host-1-a") -> LogFile:
        rows = [row for request, answer in answers.items() for row in rows_of(request, answer)]
        start = ends.get((version, server), 0)
        end = ends[version, server] = start + len(rows)
        file = LogFile(hour_of(datetime.now(UTC)), server, start, end, logs(("digits", version)))
        schema = log_schema(HEADS)
        write_rows(file, pa.Table.from_pylist([{**COMMON, **row} for row in rows], schema))
        return file

    return write_file


def rows_of(request_id: str, answer: object) -> list[dict[str, object]]:
    if answer == REFUSED:
        return [{"request_id": request_id, "row": 0, "status": 400}]
    rows = answer if isinstance(answer, list) else [{"digit": answer}]
    return [
        {
            "request_id": request_id,
            "row": number,
            "status": 200,
            **{f"predicted:{head}": value for head, value in row.items()},
        }
        for number, row in enumerate(rows)
    ]


def counts(counter: DisagreementCounter, version: int = 2) -> tuple[int, float]:
    counter.update()
    return counter.counts(("digits", version))


@pytest.mark.parametrize(
    ("stable", "shadow", "expected"),
    [
        ([{"a": 1}], [{"a": 1}], 0.0),
        ([{"a": 1}], [{"a": 2}], 1.0),
        ([{"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}], [{"a": 1}, {"a": 0}, {"a": 0}, {"a": 0}], 0.75),
        ([{"a": 1, "b": 5}], [{"a": 1, "b": 6}], 1.0),
        ([{"a": 1, "price": 5.0}], [{"a": 1, "price": 9.5}], 0.0),
        ([{"price": 5.0}], [{"price": 9.5}], None),
        ([{"a": 1}], [{"other": 1}], None),
        ([], [], None),
    ],
)
def test_rows_are_compared_class_by_class(stable, shadow, expected) -> None:
    assert differing_share(stable, shadow, {}) == expected


@pytest.mark.parametrize(
    ("stable", "shadow", "share"),
    [
        (5.0, 6.5, 0.0),
        (5.0, 6.75, 1.0),
        (5.0, 3.25, 1.0),
        (None, None, 0.0),
        (None, 5.0, 1.0),
    ],
)
def test_numbers_differ_beyond_the_stable_models_own_error(stable, shadow, share) -> None:
    assert differing_share([{"price": stable}], [{"price": shadow}], {"price": 1.5}) == share


def test_a_request_of_200_rows_is_one_sample(counter, write) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": [{"digit": 3}] * 200, "b": [{"digit": 3}] * 4})
    write(2, {"a": [{"digit": 4}] * 200, "b": [{"digit": 3}] * 3 + [{"digit": 4}]})
    assert counts(counter) == (2, 1.25)


def test_a_head_of_numbers_is_compared_by_the_error_of_the_stable_version(
    tmp_path, logs, write
) -> None:
    errors = {("digits", 1): {"price": 2.0}}
    counter = DisagreementCounter(tmp_path / "pairs", logs, lambda version: errors[version])
    counter.follow("digits", 1, 2)
    write(1, {"a": [{"price": 10.0}, {"price": 10.0}]})
    write(2, {"a": [{"price": 11.0}, {"price": 13.0}]})
    assert counts(counter) == (1, 0.5)


def test_pairs_are_joined_by_request_id_in_any_order(counter, write) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": 3, "b": 4, "only stable": 5})
    assert counts(counter) == (0, 0)
    write(2, {"b": 4, "a": 9, "only shadow": 5})
    assert counts(counter) == (2, 1)
    write(2, {"c": 1})
    write(1, {"c": 0})
    assert counts(counter) == (3, 2)
    assert counts(counter) == (3, 2)


def test_what_the_shadow_refuses_counts_if_stable_answers_it(counter, write) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": 3, "b": [{"digit": 3}] * 5, "both": REFUSED, "only stable": REFUSED, "e": 1})
    write(2, {"b": REFUSED, "a": REFUSED, "both": REFUSED, "only stable": 4, "e": 1})
    assert counts(counter) == (3, 2.0)  # a, b and e, of which two differ in all rows
    assert counter.refused_alone(("digits", 2)) == 2
    write(2, {"early": REFUSED})
    write(1, {"early": 3})
    assert counts(counter) == (4, 3.0)
    assert counter.refused_alone(("digits", 2)) == 3
    assert counter.refused_alone(("digits", 1)) == 0


def test_a_successor_goes_on_with_the_refusals(counter, write, tmp_path, logs) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": 3})
    write(2, {"a": REFUSED})
    counter.update()
    successor = DisagreementCounter(tmp_path / "pairs", logs)
    assert successor.refused_alone(("digits", 2)) == 1
    successor.follow("digits", 1, 2)
    write(1, {"b": 3})
    write(2, {"b": REFUSED})
    successor.update()
    assert successor.refused_alone(("digits", 2)) == 2


def test_what_was_logged_before_the_shadow_began_does_not_count(counter, write) -> None:
    write(1, {"old": 3})
    write(2, {"old": 4})
    counter.follow("digits", 1, 2)
    assert counts(counter) == (0, 0)


def test_merged_files_and_those_of_a_restarted_server_are_read_once(counter, write) -> None:
    counter.follow("digits", 1, 2)
    files = [write(1, {"a": 3})]
    assert counts(counter) == (0, 0)
    files += [write(1, {"b": 3}), write(1, {"c": 3, "d": 3})]
    write(2, {"a": 3, "b": 4})
    merge(files)
    assert counts(counter) == (2, 1)
    write(1, {"e": 3}, server="host-1-b")
    write(2, {"c": 3, "d": 3, "e": 9}, server="host-2-c")
    assert counts(counter) == (5, 2)


def test_a_file_that_is_broken_is_passed_over(counter, write, caplog) -> None:
    counter.follow("digits", 1, 2)
    broken = write(1, {"a": 3})
    broken.path.write_bytes(b"PAR1 and no more")
    write(2, {"a": 4, "b": 4})
    assert counts(counter) == (0, 0)
    write(1, {"b": 3})
    assert counts(counter) == (1, 1)
    assert f"{broken.path}: not a readable Parquet file" in caplog.text


def test_a_successor_goes_on_where_a_killed_agent_was(counter, write, tmp_path, logs) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": 3})
    write(2, {"a": 4})
    assert counts(counter) == (1, 1)
    write(1, {"b": 3})
    write(2, {"b": 3})
    successor = DisagreementCounter(tmp_path / "pairs", logs)
    assert successor.counts(("digits", 2)) == (1, 1)
    successor.follow("digits", 1, 2)
    assert counts(successor) == (2, 1)


def test_counts_outlive_the_shadow_and_go_on_with_the_next(counter, write) -> None:
    counter.follow("digits", 1, 2)
    write(1, {"a": 3})
    write(2, {"a": 4})
    counter.follow("digits", 1, None)
    assert counts(counter) == (1, 1)
    write(1, {"unseen": 3})
    write(2, {"unseen": 4})
    assert counts(counter) == (1, 1)
    counter.follow("digits", 1, 2)
    write(1, {"b": 3})
    write(2, {"b": 3})
    assert counts(counter) == (2, 1)
    counter.forget(("digits", 2))
    assert counter.counts(("digits", 2)) == (0, 0)


def test_a_pipeline_that_was_never_compared_has_no_counts(counter) -> None:
    assert counts(counter) == (0, 0)
