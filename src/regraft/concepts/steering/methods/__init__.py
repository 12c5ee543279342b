"""Methods that steer a prompt, one file each."""

from regraft.concepts.steering.steering import PromptSteering

__all__ = ["PromptSteering"]
