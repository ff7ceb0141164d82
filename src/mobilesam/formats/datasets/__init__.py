"""Labelled photos in the formats that people use: one neutral model, and a reader and a writer for each format."""
