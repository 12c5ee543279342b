"""Sentences in which a new word is to leave its neighbors as they are: of living things, of other things, and of both."""

from typing import Literal

Prompts = Literal["universal", "animate", "inanimate"]

COLORS = ("red", "green", "blue", "yellow", "pink", "white", "black", "brown")
PLACES = (
    "in the snow",
    "on a beach at low tide",
    "in front of a brick wall",
    "beside a mountain lake",
    "in a field of poppies",
    "on a wet street at night",
    "under an old oak",
    "on the roof of a tall building",
)
STYLES = ("a watercolor", "an oil painting", "a charcoal sketch", "a paper collage", "a stained glass window", "a woodcut")
SCENES = (
    "an ink drawing of a {} with a castle behind it",
    "a pastel painting of a {} under a sky full of stars",
    "a pixel art picture of a {} at the edge of a forest",
    "a comic strip with a {} in a crowded market",
    "a mosaic of a {} among fish and shells",
    "a low poly rendering of a {} on a small island",
)
ACTIONS = (
    "a {} runs along a river",
    "a {} sleeps on a red sofa",
    "a {} jumps over a wooden fence",
    "a {} looks out of a train window",
    "a {} swims across a blue pool",
    "a {} plays with a yellow ball",
    "a {} waits at a bus stop in the rain",
    "a {} climbs a steep hill",
)
OUTFITS = (
    "a {} in a green raincoat",
    "a {} with a straw hat",
    "a {} with round glasses and a scarf",
    "a {} in the suit of an astronaut",
    "a {} with a blue ribbon",
    "a {} in a knitted sweater",
)
SETTINGS = (
    "a {} on a marble table",
    "a {} on a shelf between old books",
    "a {} in a cardboard box full of straw",
    "a {} on top of a white pillow",
    "a {} beside a cup of coffee",
    "a {} held up by two hands",
    "a {} in a shop window",
    "a {} that floats on water",
)
MATTERS = (
    "a {} made of glass",
    "a {} carved from dark wood",
    "a {} covered with moss",
    "a {} of polished brass",
    "a {} knitted from wool",
    "a {} with a pattern of dots",
)


def sentences(which: Prompts) -> list[str]:
    """About forty sentences with one ``{}``."""
    colored = [f"a {color} {{}}" for color in COLORS[:4]] + [f"a {{}} with a {color} wall behind it" for color in COLORS[4:]]
    placed, styled = [f"a {{}} {place}" for place in PLACES], [f"{style} of a {{}}" for style in STYLES]
    if which == "animate":
        return [*ACTIONS, *OUTFITS, *colored, *placed, *styled, *SCENES]
    if which == "inanimate":
        return [*SETTINGS, *MATTERS, *colored, *placed, *styled, *SCENES]
    around = [f"a picture of a {{}} on a {color} background" for color in COLORS]
    both = [f"a drawing of a {color} {{}} on a {other} background" for color, other in zip(COLORS, reversed(COLORS), strict=True)]
    return [*(f"a photo of a {color} {{}}" for color in COLORS), *around, *both, *placed[:4], *styled, *SCENES]
