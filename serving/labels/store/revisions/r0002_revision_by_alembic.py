"""The table `slipway_labels` had the number of the tables' form; Alembic's table has it now."""

from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    """Remove it."""
    op.drop_table("slipway_labels")
