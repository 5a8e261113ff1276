"""`python -m planner` is `lanewise`."""

from planner.cli import main

raise SystemExit(main())
