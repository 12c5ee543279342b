"""Genes that are learned by distillation: a network whose layers are mixes of a few, trained to answer as the model does."""
