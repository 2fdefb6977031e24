"""How the tables have changed: Alembic's revisions, one file each, oldest first.

A revision is never changed once it is released. A new one changes `tables.py` too, and `NEWEST` in
`upgrading.py`; a test compares the tables that all revisions make with `tables.py`.
"""
