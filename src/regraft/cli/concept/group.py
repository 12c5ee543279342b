"""The groups that the verbs of `regraft concept` register with."""

from regraft.cli.app import command_group

group = command_group("concept", "New words for pictures: taught to, taken apart in and steered through a frozen text-to-image model.")
split = command_group(
    "split", "A diffusion transformer that comes apart by class: what all classes share, and what is each one's own.", parent=group
)
decode = command_group("decode", "Images of embeddings: what a vector holds, variations, large images by tiles.", parent=group)
