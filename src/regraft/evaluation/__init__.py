"""What text costs a model, per byte, so that models with different vocabularies compare."""

from regraft.evaluation.score import GreedyHits, Score, Speed, generation_speed, greedy_hits, joined, paired_difference, score_text

__all__ = ["GreedyHits", "Score", "Speed", "generation_speed", "greedy_hits", "joined", "paired_difference", "score_text"]
