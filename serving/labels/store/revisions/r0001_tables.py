"""The first tables."""

from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    UniqueConstraint,
)

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make them."""
    op.create_table("slipway_labels", Column("version", Integer, primary_key=True))
    op.create_table(
        "topic",
        Column("id", Integer, primary_key=True),
        _words("pipeline"),
        _words("head"),
        Column("classes", JSON, nullable=False),
        Column("features", JSON, nullable=False),
        _count("questions"),
        _count("closed"),
        _count("batches"),
        UniqueConstraint("pipeline", "head"),
    )
    op.create_table(
        "labeller",
        Column("id", Integer, primary_key=True),
        _words("name", unique=True),
        _count("points"),
        _count("answers"),
        _count("streak"),
        _number("last_at"),
        _number("reached"),
    )
    _make_questions(op)
    _make_answers(op)


def _make_questions(op: Operations) -> None:
    op.create_table(
        "question",
        Column("id", Integer, primary_key=True),
        Column("topic", Integer, ForeignKey("topic.id"), nullable=False),
        Column("request_id", String(500), nullable=False),
        _count("row"),
        _count("version"),
        Column("inputs", JSON, nullable=False),
        Column("guesses", JSON, nullable=False),
        _number("probability"),
        _number("audit_probability"),
        Column("is_audit", Boolean, nullable=False),
        Column("gold", String(500)),
        _count("wanted"),
        _count("taken"),
        _count("answers"),
        Column("is_free", Boolean, nullable=False),
        _number("place"),
        UniqueConstraint("topic", "request_id", "row"),
    )
    op.create_index("question_next", "question", ["topic", "is_free", "place"])


def _make_answers(op: Operations) -> None:
    op.create_table(
        "assignment",
        Column("question", Integer, ForeignKey("question.id"), primary_key=True),
        Column("labeller", Integer, ForeignKey("labeller.id"), primary_key=True),
        Column("state", String(10), nullable=False),
        _number("expires_at"),
        Column("label", String(500)),
        Column("answered_at", Float),
        _count("points"),
    )
    op.create_index("assignment_of_labeller", "assignment", ["labeller", "state"])
    op.create_index("assignment_expiring", "assignment", ["state", "expires_at"])
    op.create_table(
        "decision",
        Column("question", Integer, ForeignKey("question.id"), primary_key=True),
        Column("label", String(500)),
        _words("author"),
        _number("decided_at"),
    )


def _words(name: str, **more: Any) -> "Column[str]":
    return Column(name, String(200), nullable=False, **more)


def _count(name: str) -> "Column[int]":
    return Column(name, Integer, nullable=False)


def _number(name: str) -> "Column[float]":
    return Column(name, Float, nullable=False)
