"""The database's schema through time: one Alembic revision for each change of `schema/`.

To add one, as everybody who changes `schema/` does in the same commit:

1. change the table in `edge_fleet/schema/`;
2. `python -m edge_fleet.migrations "windows know their epsilon"` writes `versions/rNNNN_....py`
   with the difference between the newest revision and `schema/`; read it, finish it by hand. A new
   column that must not be null needs a `server_default`: there are rows already. What Alembic cannot see
   (data that moves, a check) is written with `op.execute`. Change existing columns inside
   `with op.batch_alter_table(...)`: SQLite has no ALTER for them;
3. run `pytest tests/fleet/test_migrations.py`: it takes a database of the first schema with rows in every
   table to the newest revision, on SQLite and on PostgreSQL, and compares the result with `schema/`.

Revisions form one line. When two branches added one each, the second to land renumbers its own:
its file's name, `revision` and `down_revision`. There is no way back down: restore a backup.

`upgrade.py` runs them; a fresh database is made from `schema/` at once and marked as newest.
"""
