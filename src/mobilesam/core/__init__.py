"""The arithmetic: NumPy only, written once for every runtime."""
