"""Which engine is taken, by hand-made figures; and how answers are compared."""

from typing import Any

import numpy as np
import pytest

from components.optimize.engines.choice import Tried, choose, next_best
from components.optimize.engines.comparison import agreement_ratio, max_difference
from components.optimize.judging.judgement import AnswerCost
from components.optimize.report.engine_tables import as_figure, as_table
from contract.errors import UserCodeError
from contract.records.evaluation import Metric
from contract.records.optimization import Machine, ServedEngine
from contract.schema.optimize import EnginesConfig

EXPECTED = {"scores": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]], np.float32)}


def tried(name: str, milliseconds: float, megabytes: float = 100.0, **changes: Any) -> Tried:
    """Return a trial whose calls with 1 and 32 rows take as long, and that answers as expected."""
    figures = {
        "cpu_ms_batch_1": milliseconds,
        "cpu_ms_batch_32": milliseconds,
        "p99_ms_batch_1": 2 * milliseconds,
        "rows_per_second": 32_000 / milliseconds,
        "memory_mb": megabytes,
    }
    values: dict[str, Any] = {
        "figures": figures,
        "answers": EXPECTED,
        "is_reduced": name.endswith("_int8"),
    }
    return Tried(name, **(values | changes))


def off_by(difference: float) -> dict[str, np.ndarray]:
    return {"scores": EXPECTED["scores"] + np.float32(difference)}


def costs(points: float, reach: float = 2.0) -> AnswerCost:
    """Return a judgement of so many points of accuracy, and how far its differences may grow."""
    lost = -points / 100
    difference = Metric(value=lost, low=lost - 0.01, high=lost + 0.01)
    return AnswerCost(points, 0.95, 0.9 + lost, difference, reach)


def other_class(rows: int) -> dict[str, np.ndarray]:
    scores = EXPECTED["scores"].copy()
    scores[:rows] = scores[:rows, ::-1]
    return {"scores": scores}


TENSORFLOW = tried("tensorflow", 1.0, 700.0)


def chosen(*others: Tried, **limits: Any) -> str:
    return choose([TENSORFLOW, *others], EXPECTED, EnginesConfig(**limits)).name


def reason(name: str, *others: Tried, **limits: Any) -> str:
    served = choose([TENSORFLOW, *others], EXPECTED, EnginesConfig(**limits))
    (row,) = [row for row in served.measured if row.name == name]
    assert not row.is_eligible
    return row.reason


def test_the_fastest_is_taken_and_the_reason_says_by_how_much() -> None:
    served = choose(
        [TENSORFLOW, tried("openvino", 0.5), tried("litert", 0.25, 60.0)],
        EXPECTED,
        EnginesConfig(),
    )
    assert served.name == "litert"
    assert served.reason == "4.0 times as fast as tensorflow, 60 MB instead of 700 MB"
    assert served.tolerance == 1e-4
    assert [row.name for row in served.measured] == ["tensorflow", "openvino", "litert"]


def test_of_those_as_fast_the_one_with_least_memory_is_taken() -> None:
    assert chosen(tried("openvino", 1.05, 120.0)) == "openvino"
    assert chosen(tried("openvino", 1.15, 120.0)) == "tensorflow"


def test_int8_must_be_clearly_faster_than_float() -> None:
    assert chosen(tried("openvino", 0.5), tried("openvino_int8", 0.45)) == "openvino"
    assert chosen(tried("openvino", 0.5), tried("openvino_int8", 0.40)) == "openvino_int8"
    assert (
        chosen(tried("openvino", 0.5), tried("openvino_int8", 0.4), min_speedup=1.3) == "openvino"
    )


def test_a_float_engine_that_answers_otherwise_is_left_out() -> None:
    assert chosen(tried("openvino", 0.1, answers=off_by(9e-5))) == "openvino"
    wrong = tried("openvino", 0.1, answers=off_by(2e-4))
    assert "answers differ from TensorFlow's by 0.0002" in reason("openvino", wrong)
    assert chosen(wrong) == "tensorflow"


def test_int8_is_judged_by_its_metric_not_by_digits() -> None:
    close = tried("openvino_int8", 0.1, answers=off_by(0.05), judgement=costs(0.9))
    served = choose([TENSORFLOW, close], EXPECTED, EnginesConfig())
    assert served.name == "openvino_int8"
    assert served.tolerance == pytest.approx(0.1, rel=1e-5)  # twice what the sample rows differ by
    bounded = tried("openvino_int8", 0.1, answers=off_by(0.05), judgement=costs(0.9, reach=1.2))
    served = choose([TENSORFLOW, bounded], EXPECTED, EnginesConfig())
    assert served.tolerance == pytest.approx(0.06, rel=1e-5)  # no further than the budget lets grow
    row = served.measured[-1]
    assert (row.cost_points, row.metric) == (0.9, pytest.approx(0.891))
    # the judgement on the evaluation rows decides, not the classes of the sample rows
    assert chosen(tried("openvino_int8", 0.1, answers=other_class(1), judgement=costs(0.0))) == (
        "openvino_int8"
    )
    wrong = tried("openvino_int8", 0.1, judgement=costs(8.8))
    words = "left out: costs 8.80 points (metric's difference, 95 % interval: -0.0980 to -0.0780)"
    assert f"{words}, at most 1 are allowed" in reason("openvino_int8", wrong)
    lost = tried("openvino_int8", 0.1, judgement=costs(8.8), no_rescue="no layer helps")
    assert reason("openvino_int8", lost).endswith("(max_accuracy_loss_points); no layer helps")
    assert chosen(wrong, max_accuracy_loss_points=9.0) == "openvino_int8"


def test_a_nan_is_never_within_any_budget() -> None:
    broken = tried("litert_int8", 0.1, answers={"scores": EXPECTED["scores"] * np.float32(np.nan)})
    assert chosen(broken, max_accuracy_loss_points=100.0) == "tensorflow"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_p99_ms": 0.9}, "p99 1 ms, limit 0.9 ms"),
        ({"min_rows_per_second": 65_000.0}, "64000 rows/s, at least 65000 are required"),
        ({"max_memory_mb": 99.0}, "memory 100 MB, limit 99 MB"),
    ],
)
def test_an_engine_beyond_a_limit_is_left_out_with_the_reason(
    limits: dict[str, float], message: str
) -> None:
    assert message in reason("openvino", tried("openvino", 0.5), **limits)


def test_if_none_keeps_to_the_limits_tensorflow_goes_on_and_that_is_said() -> None:
    served = choose([TENSORFLOW, tried("openvino", 0.5)], EXPECTED, EnginesConfig(max_p99_ms=0.01))
    assert served.name == "tensorflow"
    assert served.reason.startswith("every engine has a problem: tensorflow left out: p99 2 ms")


def test_int8_is_not_served_because_no_float_engine_is_eligible() -> None:
    int8 = tried("openvino_int8", 0.9, judgement=costs(0.1))
    wrong = tried("openvino", 0.1, answers=off_by(0.2))
    # TensorFlow keeps to no limit of 1 ms, int8 does: but it is not 1.2 times as fast.
    served = choose([TENSORFLOW, wrong, int8], EXPECTED, EnginesConfig(max_p99_ms=1.9))
    assert served.name == "tensorflow"
    assert served.reason.startswith("every engine has a problem: tensorflow left out: p99 2 ms")
    quick = tried("openvino_int8", 0.8, judgement=costs(0.1))
    served = choose([TENSORFLOW, wrong, quick], EXPECTED, EnginesConfig(max_p99_ms=1.9))
    assert served.name == "openvino_int8"  # for its speed, beside TensorFlow's
    broken = Tried("tensorflow", False, failure="killed")
    assert choose([broken, wrong, quick], EXPECTED, EnginesConfig()).name == "tensorflow"


def test_lossy_weights_in_tensorflow_go_on_unless_int8_is_clearly_faster() -> None:
    lossy = tried("tensorflow", 1.0, is_reduced=True, judgement=costs(0.1))
    slow, quick = (tried("openvino_int8", ms, judgement=costs(0.1)) for ms in (0.9, 0.8))
    assert choose([lossy, slow], EXPECTED, EnginesConfig()).name == "tensorflow"
    assert choose([lossy, quick], EXPECTED, EnginesConfig()).name == "openvino_int8"


def test_tensorflow_that_differs_from_itself_stops_the_choice() -> None:
    other = tried("tensorflow", 1.0, answers=off_by(0.025))
    int8 = tried("openvino_int8", 0.1, judgement=costs(0.0))
    with pytest.raises(
        UserCodeError,
        match=r"TensorFlow answers the same rows differently \(by 0.0\d+\).*depends on more than",
    ):
        choose([other, int8], EXPECTED, EnginesConfig())
    # as sums in bfloat16 may, which the caller knows of
    assert choose([other], EXPECTED, EnginesConfig(), 0.1, row_tolerance=0.1).name == "tensorflow"
    noise = tried("tensorflow", 1.0, answers=off_by(2e-6))
    assert choose([noise], EXPECTED, EnginesConfig(), skew_tolerance=1e-5).name == "tensorflow"


def test_a_float_engine_must_keep_to_half_of_the_skew_that_its_package_may_have() -> None:
    def served(difference: float, skew_tolerance: float) -> ServedEngine:
        engine = tried("openvino", 0.1, answers=off_by(difference))
        return choose([TENSORFLOW, engine], EXPECTED, EnginesConfig(), skew_tolerance)

    assert (served(4e-6, 1e-5).name, served(4e-6, 1e-5).tolerance) == ("openvino", 1e-5)
    left_out = served(9e-6, 1e-5)
    assert (left_out.name, left_out.tolerance) == ("tensorflow", 0.0)
    assert "at most 5e-06 is allowed" in left_out.measured[-1].reason
    # its own tolerance stays the limit where skew may be larger
    assert (served(9e-5, 1.0).name, served(9e-5, 1.0).tolerance) == ("openvino", 1e-4)
    assert served(2e-4, 1.0).name == "tensorflow"


def test_a_share_of_rows_is_exempt_for_what_computes_in_less_than_float32_only() -> None:
    int8 = tried("openvino_int8", 0.1, answers=off_by(0.05), judgement=costs(0.9))
    served = choose([TENSORFLOW, int8], EXPECTED, EnginesConfig(max_accuracy_loss_points=2.0))
    assert (served.exempt_ratio, served.is_reduced) == (0.02, True)
    served = choose([TENSORFLOW, tried("openvino", 0.1)], EXPECTED, EnginesConfig())
    assert (served.exempt_ratio, served.is_reduced) == (0.0, False)
    lossy = tried("tensorflow", 1.0, is_reduced=True, answers=off_by(0.01))
    assert choose([lossy], EXPECTED, EnginesConfig()).is_reduced
    assert not choose([TENSORFLOW], EXPECTED, EnginesConfig()).is_reduced


def test_what_could_not_be_tried_is_left_out_with_its_own_words() -> None:
    failed = Tried("litert", False, failure="no kernel for Frobnicate")
    assert reason("litert", failed) == "left out: no kernel for Frobnicate"


def test_tensorflow_with_lossy_weights_gets_a_tolerance() -> None:
    lossy = tried("tensorflow", 1.0, is_reduced=True, answers=off_by(0.01))
    assert choose([lossy], EXPECTED, EnginesConfig()).tolerance == pytest.approx(0.02, rel=1e-5)
    assert choose([TENSORFLOW], EXPECTED, EnginesConfig()).tolerance == 0.0


# --- comparison ---------------------------------------------------------------------------------


def test_differences_are_absolute_below_one_and_relative_above() -> None:
    expected = {"value": np.array([0.5, 100.0, -4.0])}
    assert max_difference(expected, {"value": np.array([0.6, 101.0, -4.0])}) == pytest.approx(0.1)
    assert max_difference(expected, {"value": np.array([0.5, 150.0, -4.0])}) == pytest.approx(0.5)


def test_what_is_no_float_must_be_equal() -> None:
    words = {"word": np.array([b"a", b"b"], object)}
    assert max_difference(words, words) == 0.0
    assert max_difference(words, {"word": np.array([b"a", b"c"], object)}) == np.inf
    assert agreement_ratio(words, {"word": np.array([b"a", b"c"], object)}) == 0.5
    assert max_difference({"x": np.zeros(2)}, {"x": np.zeros(3)}) == np.inf


def test_a_regression_loses_its_error_as_a_share_of_the_spread() -> None:
    expected = {"value": np.array([1.0, 3.0, 1.0, 3.0])}  # standard deviation 1
    found = {"value": np.array([1.1, 3.1, 0.9, 2.9])}
    assert agreement_ratio(expected, found) == pytest.approx(0.9)


def test_a_probability_of_its_own_predicts_a_class_and_is_no_regression() -> None:
    expected = {"scores": np.array([0.1, 0.6, 0.9, 0.4])}
    assert agreement_ratio(expected, {"scores": np.array([0.3, 0.4, 0.8, 0.2])}) == 0.75
    # of real numbers of all kinds: 0.2 apart, standard deviation 1
    values = {"value": np.array([1.0, 3.0, 1.0, 3.0])}
    assert agreement_ratio(values, {"value": values["value"] + 0.2}) == pytest.approx(0.8)


def test_the_output_that_agrees_least_counts() -> None:
    expected = {**EXPECTED, "value": np.array([1.0, 3.0, 1.0, 3.0])}
    assert agreement_ratio(expected, {**expected, **other_class(2)}) == 0.5


# --- table and picture --------------------------------------------------------------------------


def test_table_and_picture_show_every_trial_and_the_choice() -> None:
    failed = Tried("litert", False, failure="no kernel for Frobnicate")
    here = Machine(cpu="Some CPU", flags=("avx2",))
    quick = tried("openvino", 0.5, float_layers=("first", "second"), machine=here)
    served = choose([TENSORFLOW, quick, failed], EXPECTED, EnginesConfig())
    table = as_table(served)
    assert table["name"] == ["tensorflow", "openvino", "litert"]
    assert table["is_chosen"] == [False, True, False]
    assert {len(column) for column in table.values()} == {3}
    assert table["float_layers"] == ["", "first, second", ""]
    assert table["machine"] == ["", "Some CPU", ""]
    labels = [label.get_text() for label in as_figure(served).axes[0].get_yticklabels()]
    assert labels == ["tensorflow", "openvino"]  # what could not be tried has nothing to draw


def test_the_next_best_follow_until_tensorflow_is_the_best() -> None:
    """int8 comes before the float32 engines it beats; an engine slower than TensorFlow never."""
    others = [
        tried("openvino", 0.5),
        tried("litert", 0.25),
        tried("openvino_int8", 0.1, judgement=costs(0.5)),
        tried("openvino_bf16", 2.0),
        tried("litert_int8", 0.05, judgement=costs(3.0)),
    ]
    ranked = list(next_best([TENSORFLOW, *others], EXPECTED, EnginesConfig()))
    assert [one.name for one in ranked] == ["openvino_int8", "litert", "openvino"]
    assert [one.exempt_ratio for one in ranked] == [0.01, 0.0, 0.0]
    assert list(next_best([TENSORFLOW, others[3]], EXPECTED, EnginesConfig())) == []
