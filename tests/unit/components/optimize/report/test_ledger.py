"""The ledger as table and picture."""

from components.optimize.report.ledger import as_figure, as_table
from contract.records.optimization import LedgerRow

ROWS = (
    LedgerRow(name="original", is_kept=True, operations=10, size_bytes=2048),
    LedgerRow(name="freeze_graph", is_kept=False, reason="undone: RuntimeError: no", operations=0),
)


def test_the_table_has_one_column_per_figure() -> None:
    table = as_table(ROWS)
    assert table["name"] == ["original", "freeze_graph"]
    assert table["is_kept"] == [True, False]
    assert table["reason"][1] == "undone: RuntimeError: no"
    assert "record_version" not in table


def test_the_picture_names_every_pass_and_greys_the_undone() -> None:
    axes = as_figure(ROWS).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "freeze_graph"]
    kept, undone = (bar.get_facecolor() for bar in axes.patches)
    assert kept != undone
