"""NV-Embed's training: two stages with different negatives, over batches that mix all tasks."""

from regraft.text.tuners.nv_embed.method import NVEmbed

__all__ = ["NVEmbed"]
