from toys.trained_tokenizers import extended, gpt4_pattern, minilm, tokenizer, tokenizers  # noqa: F401
