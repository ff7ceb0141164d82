"""Models as files for other runtimes, one target a file."""
