"""What maintainers run: a release, the lowest versions."""
