"""Tool environments: made, found, tried, removed. What they consist of is data (catalog/tools.py)."""
