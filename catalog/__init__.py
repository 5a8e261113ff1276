"""The catalogue: facts with sources. It imports nothing of ours; `catalog.load.load()` reads it."""
