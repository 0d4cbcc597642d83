"""What Alembic runs for every command: the schema and the open connection come in `config.attributes`."""

from __future__ import annotations

from alembic import context

from taskloom.server.migrations import SCHEMAS, version_table

_attributes = context.config.attributes
_schema: str = _attributes["schema"]

context.configure(
    connection=_attributes["connection"],
    target_metadata=SCHEMAS[_schema],
    version_table=version_table(_schema),
    transactional_ddl=True,  # SQLite can, too, since our connections begin explicitly
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
