"""What people read of a comparison: a table, Markdown, and one HTML page that needs no other file."""

from eval.report.page import html
from eval.report.tables import markdown, table

__all__ = ["html", "markdown", "table"]
