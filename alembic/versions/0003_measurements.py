"""Own measurements at rest, and a number that grows with every change of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("content", sa.String(64), nullable=False, unique=True),
        sa.Column("stored_at", sa.String(32), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    changes = op.create_table(
        "changes",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.bulk_insert(changes, [{"name": "measurements", "number": 0}])


def downgrade() -> None:
    op.drop_table("changes")
    op.drop_table("measurements")
