"""The ways in which new pieces are learned: continued training, an auxiliary tokenizer, n-grams."""
