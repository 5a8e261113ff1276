"""What engines and benchmarks print, read as numbers: a module per format; `planner/observe/formats.py` lists them."""
