"""What engines and benchmarks print, read into numbers: one module per format, and `planner/observe/formats.py` lists them."""
