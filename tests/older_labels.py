"""A database of labels as it was before its revisions were counted."""

from sqlalchemy import create_engine, text

from serving.labels.store.database import Database
from serving.labels.store.upgrading import NEWEST


def make_older(url: str) -> None:
    """Take a database of now back to the first revision, which had the number of a form."""
    assert NEWEST == "0003", "say here what the newer revisions have changed"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("drop table slipway_labels_revision"))
        connection.execute(text("drop table truth"))
        connection.execute(text("create table slipway_labels (version integer primary key)"))
        connection.execute(text("insert into slipway_labels values (1)"))
    engine.dispose()


def differences(database: Database) -> list[object]:
    """Return where the tables differ from what `tables.py` says, as Alembic sees it."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from serving.labels.store import tables

    options = {"version_table": "slipway_labels_revision", "compare_type": True}
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return [*compare_metadata(context, tables.metadata)]
