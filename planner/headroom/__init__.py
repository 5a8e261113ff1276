"""Does it start, where does the memory go, how much fits, what to change: `lanewise fit` and POST /fit."""
