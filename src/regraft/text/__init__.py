"""Text encoders: any language model made to embed texts, trained for it, cut in size, compared and explained."""
