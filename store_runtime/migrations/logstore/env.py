"""Alembic's entry point: runs on the connection, and in the transaction, that the runner hands over."""

from alembic import context

from store_runtime.migrations.runner import VERSION_TABLE

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    on_version_apply=lambda step, **_: attributes["starting"](step.up_revision_id),
)
with context.begin_transaction():
    context.run_migrations()
