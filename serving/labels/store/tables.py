"""The tables. A person has one assignment of a question at most, ever: the key says so.

Who changes one writes how the tables of others change, too: `revisions/`.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

topics = Table(
    "topic",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pipeline", String(200), nullable=False),
    Column("head", String(200), nullable=False),
    Column("classes", JSON, nullable=False),
    Column("features", JSON, nullable=False),
    Column("questions", Integer, nullable=False, default=0),
    Column("closed", Integer, nullable=False, default=0),
    Column("batches", Integer, nullable=False, default=0),
    UniqueConstraint("pipeline", "head"),
)

labellers = Table(
    "labeller",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("points", Integer, nullable=False, default=0),
    Column("answers", Integer, nullable=False, default=0),
    Column("streak", Integer, nullable=False, default=0),
    Column("last_at", Float, nullable=False, default=0.0),
    Column("reached", Float, nullable=False, default=0.0),  # the place of the last question
)

questions = Table(
    "question",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("topic", ForeignKey("topic.id"), nullable=False),
    Column("request_id", String(500), nullable=False),
    Column("row", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("guesses", JSON, nullable=False),
    Column("probability", Float, nullable=False),
    Column("audit_probability", Float, nullable=False),
    Column("is_audit", Boolean, nullable=False),
    Column("gold", String(500)),
    Column("wanted", Integer, nullable=False),  # answers
    Column(
        "taken", Integer, nullable=False, default=0
    ),  # answers, and assignments in people's hands
    Column("answers", Integer, nullable=False, default=0),
    Column("is_free", Boolean, nullable=False, default=True),  # taken < wanted
    Column("place", Float, nullable=False),  # in the order of asking: its batch, then by chance
    UniqueConstraint("topic", "request_id", "row"),
)
Index("question_next", questions.c.topic, questions.c.is_free, questions.c.place)

# What has become of an assignment.
OPEN, ANSWERED, UNSURE, SKIPPED, EXPIRED = "open", "answered", "unsure", "skipped", "expired"

assignments = Table(
    "assignment",
    metadata,
    Column("question", ForeignKey("question.id"), primary_key=True),
    Column("labeller", ForeignKey("labeller.id"), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("expires_at", Float, nullable=False),  # seconds since 1970
    Column("label", String(500)),
    Column("answered_at", Float),
    Column("points", Integer, nullable=False, default=0),
)
# What a reviewer has decided about a question; without a label: nobody can tell.
decisions = Table(
    "decision",
    metadata,
    Column("question", ForeignKey("question.id"), primary_key=True),
    Column("label", String(500)),
    Column("author", String(200), nullable=False),
    Column("decided_at", Float, nullable=False),  # seconds since 1970
)
# What has turned out to be true of a prediction, as another program has told.
truths = Table(
    "truth",
    metadata,
    Column("topic", ForeignKey("topic.id"), primary_key=True),
    Column("request_id", String(500), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("label", String(500), nullable=False),
    Column("author", String(200), nullable=False),
    Column("told_at", Float, nullable=False),  # seconds since 1970
)
Index("assignment_of_labeller", assignments.c.labeller, assignments.c.state)
Index("assignment_expiring", assignments.c.state, assignments.c.expires_at)
