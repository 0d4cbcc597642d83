"""Models are found by more of their fields: columns and tables of values, filled from their documents."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
COLUMNS = ("uri", "user", "comment", "parent", "iteration")


def upgrade() -> None:
    with op.batch_alter_table("models") as batch:
        for name in ("uri", "user", "comment"):
            batch.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        batch.add_column(sa.Column("parent", sa.String(length=32), nullable=False, server_default=""))
        batch.add_column(sa.Column("iteration", sa.BigInteger(), nullable=True))
    op.drop_table("model_tags")
    op.create_table(
        "model_tags",
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_tags_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "system", "tag", name=op.f("pk_model_tags")),
    )
    op.create_table(
        "model_values",
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_values_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "key", name=op.f("pk_model_values")),
    )
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    models = _table("models", "id", "document", *COLUMNS)
    tags = _table("model_tags", "model_id", "system", "tag")
    values = _table("model_values", "model_id", "key", "text")
    rows = connection.execute(sa.select(models.c.id, models.c.document)).all()
    for model_id, document in rows:
        model: dict[str, Any] = msgspec.msgpack.decode(document)
        known = {name: model[name] for name in COLUMNS if model.get(name) is not None}
        if known:
            connection.execute(sa.update(models).where(models.c.id == model_id).values(known))
        for system, field in ((False, "tags"), (True, "system_tags")):
            for tag in dict.fromkeys(model.get(field, ())):
                connection.execute(sa.insert(tags).values(model_id=model_id, system=system, tag=tag))
        for key, value in model.get("metadata", {}).items():
            plain = isinstance(value, str | bool | int | float)
            text = str(value) if plain else msgspec.json.encode(value).decode()
            connection.execute(sa.insert(values).values(model_id=model_id, key=key, text=text))


def _table(name: str, *columns: str) -> sa.TableClause:
    named: list[sa.ColumnClause[Any]] = [sa.column(column) for column in columns]
    return sa.table(name, *named)
