"""Vocabularies: change a trained model's tokenizer, start the new rows, and measure what was gained and lost."""
