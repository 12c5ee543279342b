"""Made text in two languages that share some syllables, for tests of tokenizers."""

import json
import random

SYLLABLES = ["ba", "de", "fi", "go", "lu", "mar", "nor", "pel", "qui", "rus", "san", "tor", "vex", "zan"]


def make_words(seed: int, count: int, syllables=SYLLABLES) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choice(syllables) for _ in range(draw.randint(1, 3))) for _ in range(count)]


def make_texts(seed: int, lines: int = 300, syllables=SYLLABLES) -> list[str]:
    draw = random.Random(seed)
    words = make_words(seed, 150, syllables)
    return [" ".join(draw.choices(words, weights=range(len(words), 0, -1), k=12)) + draw.choice([".", "!", ", 42"]) for _ in range(lines)]


OLD = make_texts(1)
# other syllables and letters outside ASCII, one of which no old text has
NEW = make_texts(2, syllables=["hơ", "kiệm", "blu", "strof", "ba", "de", "дом", "ня"])


def companions(**config) -> dict[str, bytes]:
    return {"tokenizer_config.json": json.dumps(config).encode()}
