"""Language models as scoring and training see them: loading, hidden states and logits, the precision of products."""
