"""Routes that other programs' clients already know, one file for each program. See docs/how-to/integrations.md."""
