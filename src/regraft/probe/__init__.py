"""What does a representation hold? Measures of embeddings and hidden states, each with an interval and a word on how to read it."""
