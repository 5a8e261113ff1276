"""Scripts that other interpreters run, inside tool environments: they import nothing of ours."""
