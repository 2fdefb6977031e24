"""The picture of a run's data: an overview of all columns, charts of those that differ."""

from matplotlib.axes import Axes

from components.validate.drift import Drift
from components.validate.figures import draw_distributions
from components.validate.statistics import ColumnStatistics


def texts(counts: dict[str, int], missing: int = 0) -> ColumnStatistics:
    values = sum(counts.values())
    return ColumnStatistics(
        kind="categorical",
        rows=values + missing,
        missing=missing,
        values=values,
        most_common=counts,
    )


def lines(overview: Axes) -> list[str]:
    return [label.get_text() for label in overview.get_yticklabels()]


def test_without_anomalies_there_is_the_overview_only() -> None:
    columns = {"job": texts({"cook": 3, "clerk": 1}), "town": texts({"Ghent": 1}, missing=3)}
    (overview,) = draw_distributions(columns, {}, set(), "").axes
    assert lines(overview) == ["job", "town   missing 75.0%"]
    (picture,) = overview.images
    shown = picture.get_array()
    assert shown is not None
    assert shown[0, :3].round(3).tolist() == [1.0, 0.333, 0.0]


def test_a_column_that_is_told_of_has_a_chart_and_most_drifted_come_first() -> None:
    columns = {"job": texts({"cook": 1}), "town": texts({"Ghent": 1}), "sex": texts({"f": 1})}
    drifts = {
        name: Drift(("a", "(missing)"), (1.0, 0.0), (1.0, 0.0), distance)
        for name, distance in (("job", 0.1), ("town", 0.5))
    }
    overview, chart = draw_distributions(columns, drifts, {"town", "eval"}, "yesterday").axes
    assert lines(overview) == ["town   distance 0.500", "job   distance 0.100", "sex"]
    assert chart.get_title() == "town   distance 0.500"
    assert len(chart.lines) == 1


def test_of_very_many_columns_the_overview_says_how_many_it_leaves_out() -> None:
    columns = {f"column {n}": texts({"a": 1}) for n in range(65)}
    overview, *charts = draw_distributions(columns, {}, set(columns), "").axes
    assert len(lines(overview)) == 60
    assert overview.get_xlabel().endswith("; 5 more columns")
    assert len(charts) == 30


def test_a_column_without_any_value_has_an_empty_line() -> None:
    nothing = ColumnStatistics(kind="numeric", rows=2, missing=2, values=0)
    (overview,) = draw_distributions({"age": nothing}, {}, set(), "").axes
    assert lines(overview) == ["age   missing 100.0%"]
