"""A concept is searched as what the text tower would have said of it: rows behind the tower, which does not run while they are searched."""

from regraft.concepts.search.core import Found, Pace, Task, noise_like, search

__all__ = ["Found", "Pace", "Task", "noise_like", "search"]
