"""segment_anything's ``utils``: :mod:`amg` and :mod:`transforms`."""
