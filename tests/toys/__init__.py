"""Small models, tokenizers, vocabularies and texts that tests share: one way to make each."""
