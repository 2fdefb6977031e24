"""Bringing a database's tables to the newest revision; its rows stay."""

from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from contract.errors import ConfigError

NEWEST = "0003"
_FIRST = "0001"
# By its own name: the databases of Airflow and MLflow have a table `alembic_version`.
_TABLE = "slipway_labels_revision"
_FORM_TABLE = "slipway_labels"  # what the first revision had instead
_FOLDER = Path(__file__).with_name("revisions")

_revisions = Table(_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


def upgrade(connection: Connection) -> None:
    """Make the tables, or change older ones, in the transaction that has begun.

    Of programs that do it at once, all but the first wait for it and find nothing to do.

    Raises:
        ConfigError: If a newer Slipway has made the tables.
    """
    if _revision(connection) == NEWEST:
        return
    if connection.dialect.name == "postgresql":  # a writer of SQLite is alone from the beginning
        connection.execute(text(f"select pg_advisory_xact_lock(hashtext('{_TABLE}'))"))
    if (found := _revision(connection)) == NEWEST:
        return
    # Alembic takes a while to import, and most databases are up to date.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_FOLDER), version_locations=[str(_FOLDER)])
    if found is not None and found not in {one.revision for one in scripts.walk_revisions()}:
        raise ConfigError(
            [
                f"{connection.engine.url.render_as_string()}: its tables have revision {found}, "
                f"expected {NEWEST} or an older one; use the Slipway that made them, or another "
                "database"
            ]
        )

    def missing(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs(NEWEST, revision)

    context = MigrationContext.configure(
        connection, opts={"version_table": _TABLE, "fn": missing, "transactional_ddl": True}
    )
    if found is None and inspect(connection).has_table(_FORM_TABLE):
        context.stamp(scripts, _FIRST)
    # Revisions get `op` as an argument: Alembic's own is the same for all threads.
    context.run_migrations(op=Operations(context))


def _revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None: none is known."""
    if not inspect(connection).has_table(_TABLE):
        return None
    return connection.execute(select(_revisions.c.version_num)).scalar()
