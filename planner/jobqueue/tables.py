"""Jobs, what happened to them, what their steps printed, and receipts: as tables."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA = MetaData()
"""Of the whole store."""

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("content", String(64), nullable=False),
    Column("plan_id", String(80), nullable=False),
    Column("lane", String(64), nullable=False),
    Column("recipe", String(64)),
    Column("state", String(16), nullable=False),
    Column("because", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("ended_at", String(32)),
    Column("ask", LargeBinary, nullable=False),
    Column("steps", LargeBinary, nullable=False),
    Column("progress", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("cancelling", Boolean, nullable=False),
    Column("worker", String(128)),
    Column("place", String(32)),
    Column("token", String(32)),
    Column("lease_until", Float),
    Column("verdict", String(16)),
    Column("receipt_id", String(16)),
    Index("jobs_by_state", "state"),
)
"""`token` is that of the one worker that may write; `lease_until` in seconds since 1970 by the database's clock."""
EVENTS = Table(
    "job_events",
    METADATA,
    Column("job", String(16), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("document", LargeBinary, nullable=False),
)
LOGS = Table(
    "job_logs",
    METADATA,
    Column("job", String(16), primary_key=True),
    Column("step", String(128), primary_key=True),
    Column("stderr", LargeBinary, nullable=False),
    Column("stdout", LargeBinary, nullable=False),
)
RECEIPTS = Table(
    "receipts",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("job", String(16), nullable=False, unique=True),
    Column("plan_id", String(80), nullable=False),
    Column("stored_at", String(32), nullable=False),
    Column("lane", String(64), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("ended", String(16), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("receipts_by_plan", "plan_id"),
)
"""One per job at most, whoever writes it."""
