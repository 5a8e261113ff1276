"""Jobs, their events and logs, and receipts at rest."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(16), nullable=False, unique=True),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("plan_id", sa.String(80), nullable=False),
        sa.Column("lane", sa.String(64), nullable=False),
        sa.Column("recipe", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("started_at", sa.String(32)),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("ask", sa.LargeBinary, nullable=False),
        sa.Column("steps", sa.LargeBinary, nullable=False),
        sa.Column("progress", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(128)),
        sa.Column("place", sa.String(32)),
        sa.Column("token", sa.String(32)),
        sa.Column("lease_until", sa.Float),
        sa.Column("verdict", sa.String(16)),
        sa.Column("receipt_id", sa.String(16)),
    )
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_table(
        "job_events",
        sa.Column("job", sa.String(16), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "job_logs",
        sa.Column("job", sa.String(16), primary_key=True),
        sa.Column("step", sa.String(128), primary_key=True),
        sa.Column("stderr", sa.LargeBinary, nullable=False),
        sa.Column("stdout", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "receipts",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(16), nullable=False, unique=True),
        sa.Column("job", sa.String(16), nullable=False, unique=True),
        sa.Column("plan_id", sa.String(80), nullable=False),
        sa.Column("stored_at", sa.String(32), nullable=False),
        sa.Column("lane", sa.String(64), nullable=False),
        sa.Column("engine", sa.String(64), nullable=False),
        sa.Column("ended", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("receipts_by_plan", "receipts", ["plan_id"])
    op.execute("INSERT INTO changes (name, number) VALUES ('jobs', 0)")


def downgrade() -> None:
    op.execute("DELETE FROM changes WHERE name = 'jobs'")
    for table in ("receipts", "job_logs", "job_events", "jobs"):
        op.drop_table(table)
