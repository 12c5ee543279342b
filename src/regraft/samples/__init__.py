"""Text that ships with regraft, written for it."""

from importlib import resources


def everyday_english() -> list[str]:
    """Fourteen paragraphs of ordinary English prose (5 kB) on which drift is measured where the user gives no text."""
    text = resources.files(__name__).joinpath("everyday_english.txt").read_text("utf-8")
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
