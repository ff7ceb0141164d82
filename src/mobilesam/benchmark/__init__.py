"""How long things take and how large they are, the same way for every system."""
