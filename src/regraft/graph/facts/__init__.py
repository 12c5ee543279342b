"""Facts of a knowledge graph (head, relation, tail), learned and asked."""
