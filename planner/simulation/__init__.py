"""A replica that batches continuously, event by event: what every single request of a run waits for and gets.

Pure: the same load, limits and step times give the same bytes.
"""
