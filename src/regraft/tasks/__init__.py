"""Tasks on labelled data: their heads, fine-tuning, and models kept on disk."""
