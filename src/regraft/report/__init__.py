"""Reports: tables, plots and marked-up text on a terminal, as JSON, or as one self-contained page."""

from regraft.report.page import Report, escape, plain

__all__ = ["Report", "escape", "plain"]
