"""What Alembic runs for every command: the revisions, on the connection that it was given."""

from alembic import context

from edge_fleet.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # an ALTER that SQLite does not have becomes a copy of the table
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
