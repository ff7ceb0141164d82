"""Routes that other programs' clients know already: each program is one file here. See docs/how-to/integrations.md."""
