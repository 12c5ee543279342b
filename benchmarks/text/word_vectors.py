"""Skip-gram beside gensim's and fastText's: 100 dimensions, window 5, 5 negatives, 5 passes, 2 threads, the same file of words.

All have word2vec's plan (a random part of the window, subsampling at 1e-3, a rate that falls from 0.05 to 0, no n-grams). What is timed is
learning: fastText's reading is taken out by a run of one pass. gensim reads its file by its fastest way (`corpus_file`). In turns, medians.
The bounds: words a second at least 1.5 x gensim's and 1 x fastText's, WordSim-353 not more than 0.01 below the better of them.

    python benchmarks/run.py word_vectors [--runs 3] [--threads 2] [--noise each] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inputs import rival

from regraft import datasets
from regraft.method import resolve
from regraft.text.lexical.wordnet import find_wordnet, read_wordnet
from regraft.text.tasks.named import open_task, polarity
from regraft.text.words.corpus import read_words
from regraft.text.words.measuring import mean_of_words, table
from regraft.text.words.trainer import fit
from regraft.vectors.files import open_vectors
from regraft.vectors.training import WORD

PASSES, RATE = 5, 0.05
FASTTEXT = """
import sys, time, fasttext
file, out, threads, passes, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
plan = dict(model="skipgram", dim=100, ws=5, neg=5, minCount=5, minn=0, maxn=0, bucket=0, t=1e-3, lr=rate, verbose=0)
start = time.perf_counter(), time.process_time()
model = fasttext.train_unsupervised(file, epoch=passes, thread=threads, **plan)
took = time.perf_counter() - start[0], time.process_time() - start[1]
with open(out, "w") as file:
    file.write(f"{len(model.words)} 100\\n")
    for word in model.words:
        file.write(word + " " + " ".join(map(str, model[word])) + "\\n")
print(*took)
"""


def text(file: Path) -> int:
    """Definitions of WordNet and sentences on films, a line each; how many words."""
    lines = [definition for _, definition in read_wordnet(find_wordnet())]
    more = datasets.fetch("movie-sentences", "subj.all").read_text("latin-1").split("\n")
    cut = [" ".join(WORD.findall(line.lower())) for line in dict.fromkeys([*lines, *(one for one, _ in polarity()), *more])]
    file.write_text("\n".join(cut) + "\n", "utf-8")
    return sum(len(line.split()) for line in cut)


def ours(file: Path, threads: int, seed: int, noise: str):
    fields = {"optimizer": "linear", "rate": RATE, "shrink": True, "noise": noise, "epochs": PASSES, "validation": 0}
    words = read_words([file.read_text("utf-8")], cut="spaces")
    model = resolve("word-model", "skipgram", fields)
    start = time.perf_counter(), time.process_time()
    fitted = fit(model, words, seed=seed, workers=threads)
    return table(words, fitted.vectors), time.perf_counter() - start[0], time.process_time() - start[1]


def gensims(file: Path, threads: int, seed: int):
    from gensim.models import Word2Vec

    model = Word2Vec(vector_size=100, window=5, negative=5, min_count=5, sample=1e-3, sg=1, alpha=RATE, workers=threads, seed=seed + 1)
    model.build_vocab(corpus_file=str(file))
    start = time.perf_counter(), time.process_time()
    model.train(corpus_file=str(file), total_examples=model.corpus_count, total_words=model.corpus_total_words, epochs=PASSES)
    return open_vectors(model.wv), time.perf_counter() - start[0], time.process_time() - start[1]


def fasttexts(file: Path, threads: int, seed: int):
    """A process for each training: a second one in the same process ends in NaN (fasttext-numpy2 0.10.4)."""
    out, took = file.with_suffix(".vec"), []
    for passes in (1, PASSES + 1):
        call = [rival("fasttext"), "-c", FASTTEXT, str(file), str(out), *map(str, (threads, passes, RATE))]
        took.append([float(one) for one in subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[-2:]])
    seconds, processor = (more - once for once, more in zip(*took, strict=True))
    return open_vectors(out), seconds, processor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--noise", default="each", choices=["each", "shared"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    task, ways = open_task("words"), {"regraft": None, "gensim": gensims, "fasttext": fasttexts}
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.txt"
        count = PASSES * text(file)
        ours(file, 1, 0, options.noise)  # compiles
        for run in range(options.runs):
            for name, way in ways.items():
                found = ours(file, options.threads, run, options.noise) if way is None else way(file, options.threads, run)
                vectors, seconds, processor = found
                figures[name].append((count / seconds, count / processor, task.measure(mean_of_words(vectors)).value))
                print(f"{name:10}{figures[name][-1][0]:12,.0f} words/s{figures[name][-1][1]:12,.0f} words/processor s", flush=True)
    middle = {name: [statistics.median(one) for one in zip(*runs, strict=True)] for name, runs in figures.items()}
    by = {name: [middle["regraft"][at] / middle[name][at] for at in (0, 1)] for name in ("gensim", "fasttext")}
    behind = max(middle["gensim"][2], middle["fasttext"][2]) - middle["regraft"][2]
    for name, (seconds, processor, quality) in middle.items():
        print(f"{name:10}{seconds:12,.0f} words/s{processor:12,.0f} words/processor s   WordSim-353 {quality:.3f}")
    for name, (wall, processor) in by.items():
        print(f"regraft by {name}: {wall:.2f} (processor {processor:.2f})")
    if options.json:
        options.json.write_text(
            json.dumps({"median": middle, "ratio": by, "noise": options.noise, "words": count // PASSES, "runs": figures})
        )
    holds = by["gensim"][0] >= 1.5 and by["fasttext"][0] >= 1 and behind <= 0.01
    print("holds" if holds else "MISSED")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
