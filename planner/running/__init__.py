"""A proof that runs: steps as processes, what they left, the receipt, and its tables."""
