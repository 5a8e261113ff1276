"""Verifications that wait in the database, and the worker that runs them one at a time."""
