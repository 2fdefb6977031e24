"""Other programs tell what has turned out to be true of predictions."""

from alembic.operations import Operations
from sqlalchemy import Column, Float, ForeignKey, Integer, String

revision = "0003"
down_revision = "0002"


def upgrade(op: Operations) -> None:
    """Make the table of it."""
    op.create_table(
        "truth",
        Column("topic", Integer, ForeignKey("topic.id"), primary_key=True),
        Column("request_id", String(500), primary_key=True),
        Column("row", Integer, primary_key=True),
        Column("label", String(500), nullable=False),
        Column("author", String(200), nullable=False),
        Column("told_at", Float, nullable=False),
    )
