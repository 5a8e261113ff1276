"""Plans at rest."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(80), nullable=False, unique=True),
        sa.Column("stored_at", sa.String(32), nullable=False),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("feasible", sa.Boolean, nullable=False),
        sa.Column("lane", sa.String(64)),
        sa.Column("engine", sa.String(64)),
        sa.Column("accelerator", sa.String(128)),
        sa.Column("devices", sa.Integer),
        sa.Column("catalog_digest", sa.String(80), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("plans_by_model", "plans", ["model"])


def downgrade() -> None:
    op.drop_table("plans")
