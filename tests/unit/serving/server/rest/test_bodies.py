"""What is read of a body before the rows are."""

from serving.server.rest.bodies import read_examples


def test_a_context_is_not_copied_into_rows_that_are_refused_anyway() -> None:
    context, rows = {"x": 1}, [{}, {"x": 2}, {}]
    body = {"context": context, "examples": rows}
    assert read_examples(body, {"x"}, 3) == [{"x": 1}, {"x": 2}, {"x": 1}]
    assert read_examples(body, {"x"}, 2) == rows
    assert read_examples(body, {"y"}, 3) == [context]
