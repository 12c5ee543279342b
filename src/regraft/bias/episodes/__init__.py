"""Few-shot episodes: the losses that separate classes in them, the score of neighbourhoods, the sampler, small encoders."""
