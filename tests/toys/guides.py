"""Small inputs under the names that the guides' commands take: what a reader has, in miniature."""

import csv
import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from toys.clicks import write_libfm
from toys.directory import domain_texts, save_decoder
from toys.ontologies import DRUGS, SIGNS
from toys.tasks import sentences
from toys.text import make_words

RNG = np.random.default_rng(0)


def encoder(folder: Path, words: list[str], layers: int = 1) -> Path:
    """A BERT with a token for each of `words`."""
    folder.mkdir()
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), num_hidden_layers=layers, **shape)).save_pretrained(folder)
    return folder


def words_of(count: int) -> list[str]:
    return list(dict.fromkeys(make_words(0, 4 * count)))[:count]


def clinical_notes(folder: Path, labelled_encoder: Path) -> None:
    demo = folder / "demo-output"
    save_decoder(demo / "smollm2")
    (demo / "corpus").mkdir()
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in domain_texts()]
    (demo / "corpus" / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shutil.copytree(labelled_encoder, folder / "encoder")
    (folder / "drugs.txt").write_text("\n".join(DRUGS), encoding="utf-8")
    (folder / "signs.txt").write_text("\n".join(SIGNS), encoding="utf-8")
    blocks = ["\n".join(f"{word}\t{tag}" for word, tag in zip(s.words, s.tags, strict=True)) for s in sentences(30, 0)]
    (folder / "train.conll").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def low_resource_language(folder: Path, _: Path) -> None:
    save_decoder(folder / "model")
    texts = domain_texts()
    (folder / "si.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (folder / "en-si.tsv").write_text("".join(f"line {number}\t{text}\n" for number, text in enumerate(texts[:8])), encoding="utf-8")


def which_method(folder: Path, _: Path) -> None:
    save_decoder(folder / "model")
    (folder / "notes.txt").write_text("\n\n".join(domain_texts()), encoding="utf-8")
    rows = RNG.normal(size=(200, 8))
    turned = rows @ np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    for name, table in (("x", rows), ("y", turned)):
        lines = [f"{name}{number} {' '.join(f'{value:.5f}' for value in row)}" for number, row in enumerate(table)]
        (folder / f"{name}.vec").write_text(f"200 8\n{chr(10).join(lines)}\n", encoding="utf-8")
    pairs = [f"x{number} y{number}\n" for number in range(200)]
    (folder / "train.txt").write_text("".join(pairs[:120]), encoding="utf-8")
    (folder / "test.txt").write_text("".join(pairs[120:]), encoding="utf-8")


def align_words(folder: Path, _: Path) -> None:
    words = ["doctor", *words_of(260)]
    minilm = encoder(folder / "minilm", words)
    table = BertModel.from_pretrained(minilm).get_input_embeddings().weight.detach().numpy()[5 : 5 + len(words)]
    turned = table @ np.linalg.qr(RNG.normal(size=(16, 16)))[0] + 0.002 * RNG.normal(size=table.shape)
    np.save(folder / "glove.npy", turned.astype(np.float32))
    (folder / "glove.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "test.txt").write_text("".join(f"{word}\t{word}\n" for word in words[:60]), encoding="utf-8")
    (folder / "train.txt").write_text("".join(f"{word}\t{word}\n" for word in words[60:]), encoding="utf-8")


def align_relative(folder: Path, _: Path) -> None:
    words = words_of(80)
    encoder(folder / "minilm", words, layers=2)
    encoder(folder / "minilm-3", words)
    draw = random.Random(0)
    with (folder / "icd.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(("text", "label"))
        for number in range(520):
            label = number % 2
            csv.writer(file).writerow((" ".join(draw.choices(words[40 * label : 40 * label + 40], k=6)), f"chapter {label}"))
    rows = RNG.normal(size=(400, 16)).astype(np.float32)
    np.save(folder / "minilm.npy", rows)
    np.save(folder / "minilm-3.npy", rows @ RNG.normal(size=(16, 12)).astype(np.float32))


def probe_spectrum(folder: Path, _: Path) -> None:
    (folder / "where.txt").write_text(str(encoder(folder / "encoder", words_of(120))), encoding="utf-8")


def concept_decode(folder: Path, _: Path) -> None:
    from PIL import Image
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    (folder / "images").mkdir()
    for number in range(40):
        Image.fromarray(RNG.integers(256, size=(4, 4, 3)).astype(np.uint8)).save(folder / "images" / f"{number:02d}.png")
    rows = "".join(f"{number:02d}.png,{'tumor' if number % 2 else 'other'}\n" for number in range(40))
    (folder / "labels.csv").write_text(f"file,label\n{rows}", encoding="utf-8")
    (folder / "grid-labels.txt").write_text("tumor\nother\n" * 5, encoding="utf-8")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 4, "patch_size": 2}
    ViTModel(ViTConfig(**shape)).save_pretrained(folder / "encoder")
    ViTImageProcessor(size={"height": 4, "width": 4}).save_pretrained(folder / "encoder")


def grow_depth(folder: Path, _: Path) -> None:
    save_decoder(folder / "model", layers=4)
    (folder / "notes.txt").write_text("\n\n".join(domain_texts(90)), encoding="utf-8")


def grow_width(folder: Path, _: Path) -> None:
    save_decoder(folder / "model")
    (folder / "notes.txt").write_text("\n\n".join(domain_texts()), encoding="utf-8")


def tables_compress(folder: Path, _: Path) -> None:
    save_decoder(folder / "model")
    (folder / "notes.txt").write_text("\n\n".join(domain_texts(20)), encoding="utf-8")
    np.save(folder / "words.npy", RNG.normal(size=(200, 8)).astype(np.float32))
    (folder / "words.txt").write_text("\n".join(words_of(200)), encoding="utf-8")


def bias_classes(folder: Path, encoder_folder: Path) -> None:
    (folder / "encoder").symlink_to(encoder_folder)
    names = ["fever", "cough", "pain"]
    rows = ["text,label", *(f"the {name} of day {number},{name}" for number in range(20) for name in names)]
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(names), encoding="utf-8")


def bias_sequences(_: Path, __: Path) -> None:
    """Its task is made by the command itself."""


def bias_symbols(folder: Path, _: Path) -> None:
    (folder / "texts").mkdir()
    for number, text in enumerate(domain_texts(60)):
        (folder / "texts" / f"{number}.txt").write_text(f"{text} {text}", encoding="utf-8")
    (folder / "cipher.txt").write_text("xyyz zyyx xzzy " * 8, encoding="utf-8")


def text_words(folder: Path, _: Path) -> None:
    draw, words = random.Random(0), words_of(12)
    kinds = [words[:4], words[4:8], words[8:]]
    lines = [" ".join(draw.choices(draw.choice(kinds), k=6)) for _ in range(300)]
    (folder / "corpus").mkdir()
    (folder / "corpus" / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "notes.txt").write_text("\n".join(lines[:20]), encoding="utf-8")
    pairs = [(a, b, number // 4 == words.index(b) // 4) for number, a in enumerate(words) for b in words[number + 1 :]]
    rows = "".join(f"{a},{b},{int(same)}\n" for a, b, same in pairs)
    (folder / "pairs.csv").write_text(f"sentence1,sentence2,score\n{rows}", encoding="utf-8")


def tables_compare(folder: Path, _: Path) -> None:
    write_libfm(folder / "train.libfm", 300, 0)
    write_libfm(folder / "test.libfm", 100, 1)


def graph_facts(folder: Path, _: Path) -> None:
    from pykeen.datasets.umls import UMLS_TRAIN_PATH

    lines = UMLS_TRAIN_PATH.read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if line.startswith("virus\tcauses")]
    train = [*asked, *lines[:150]]
    (folder / "facts").mkdir()
    for name, rows in (("train", train), ("valid", train[-20:-10]), ("test", train[-10:])):
        (folder / "facts" / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def graph_nodes(folder: Path, _: Path) -> None:
    import networkx

    for place, size in (("usa", 16), ("europe", 14)):
        graph = networkx.planted_partition_graph(5, size, 0.4, 0.02, seed=size)
        edges = [f"{place}{a} {place}{b}\n" for a, b in graph.edges]
        middle = np.median([degree for _, degree in graph.degree])
        labels = [f"{place}{node},{int(degree > middle)}\n" for node, degree in graph.degree if degree]
        (folder / f"{place}.txt").write_text("".join(edges), encoding="utf-8")
        (folder / f"{place}-traffic.csv").write_text(f"node,label\n{''.join(labels)}", encoding="utf-8")


def graph_classify(folder: Path, _: Path) -> None:
    draw, kinds = random.Random(0), ("company", "government")
    pages = {str(page): draw.choices(range(10 * (page % 2), 10 * (page % 2) + 15), k=5) for page in range(120)}
    (folder / "pages.json").write_text(json.dumps(pages), encoding="utf-8")
    links = [f"{page},{(page + 2 * draw.randrange(1, 9)) % 120}\n" for page in range(120)]
    (folder / "links.csv").write_text(f"id_1,id_2\n{''.join(links)}", encoding="utf-8")
    rows = [f"{page},{1000 + page},page {page},{kinds[page % 2]}\n" for page in range(120)]
    (folder / "kinds.csv").write_text(f"id,facebook_id,page_name,page_type\n{''.join(rows)}", encoding="utf-8")


def nothing(_: Path, __: Path) -> None:
    """The guide's commands make what they need, or the package brings it."""


TOYS = {
    "align-relative": align_relative,
    "align-words": align_words,
    "bias-classes": bias_classes,
    "bias-sequences": bias_sequences,
    "bias-symbols": bias_symbols,
    "clinical-notes": clinical_notes,
    "concept-decode": concept_decode,
    "concept-learn": nothing,
    "concept-split": nothing,
    "graph-classify": graph_classify,
    "graph-facts": graph_facts,
    "graph-nodes": graph_nodes,
    "grow-depth": grow_depth,
    "grow-width": grow_width,
    "low-resource-language": low_resource_language,
    "probe-spectrum": probe_spectrum,
    "tables-compare": tables_compare,
    "tables-compress": tables_compress,
    "text-words": text_words,
    "which-method": which_method,
}
