"""From photos to files of results: sources -> questions -> work -> outputs."""
