"""Ways to learn new classes, one a file."""

from regraft.concepts.split.learner import ClassLearner

__all__ = ["ClassLearner"]
