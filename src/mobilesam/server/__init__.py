"""The server: prompts over HTTP, and the page; see docs/reference/server.md. Needs the extra ``serve``."""
