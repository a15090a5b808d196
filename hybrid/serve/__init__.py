"""`hybrid serve`: a page and an HTTP API over one engine."""
