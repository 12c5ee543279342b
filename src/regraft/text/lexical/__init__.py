"""Words, numbers and what a language model would say next: small methods on tables and logits that no library of ours has."""
