"""From a request to a lane, its numbers and its launch files: a pure core, and a thin shell around it."""
