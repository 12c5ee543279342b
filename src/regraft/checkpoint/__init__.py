"""Hugging Face checkpoints: opened without loading weights, written shard by shard."""

from regraft.checkpoint.files import Checkpoint, WriteReport, content, write
from regraft.checkpoint.layout import Layout
from regraft.checkpoint.shards import Appended, Blocks, Reshaped, TensorInfo, Value

__all__ = ["Appended", "Blocks", "Checkpoint", "Layout", "Reshaped", "TensorInfo", "Value", "WriteReport", "content", "write"]
