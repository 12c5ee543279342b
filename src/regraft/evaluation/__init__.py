"""What text costs a model, per byte, so that models with different vocabularies compare; and how well it translates."""

from regraft.evaluation.score import GreedyHits, Score, Speed, generation_speed, greedy_hits, joined, paired_difference, score_text
from regraft.evaluation.translation import Translation, translate

__all__ = [
    "GreedyHits",
    "Score",
    "Speed",
    "Translation",
    "generation_speed",
    "greedy_hits",
    "joined",
    "paired_difference",
    "score_text",
    "translate",
]
