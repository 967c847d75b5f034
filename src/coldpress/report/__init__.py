"""The proof of a run: a self-contained HTML page, and a table for the terminal."""

from coldpress.report.page import render
from coldpress.report.tables import final_table

__all__ = ["final_table", "render"]
