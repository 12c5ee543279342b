"""A word that is another vector for every layer of cross-attention and every time of denoising: networks that say it, how it is read."""
