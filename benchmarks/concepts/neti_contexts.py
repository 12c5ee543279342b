"""What a prompt costs with NeTI before it is drawn: one pass of the text tower a time with all layers in it, beside one pass a layer.

One pass of the stock encoder for each layer and time is what the released code does: 16 layers x 50 times are 800 passes a prompt. Both
ways run the same mapper on random weights and must give the same keys and values. `stable-diffusion` is the tower of Stable Diffusion 1
(12 layers of 768, 77 places), `toy` that of toy-t2i (3 of 64, 16 places); five places stand before the word. `kept` is another image of the
same prompt. The bounds: a pass a time takes at most a third in the small shape and no more in the large one, kept contexts a hundredth.

    python benchmarks/run.py neti_contexts [--times 2] [--toy-times 50] [--runs 3] [--device cpu] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from regraft.concepts.concept import context_of, together
from regraft.concepts.host.pipeline import frozen, towers
from regraft.concepts.host.words import rows_of
from regraft.concepts.kinds.mapper import MapperConcept
from regraft.concepts.methods.neti import NeTI
from regraft.concepts.spacetime.networks import Mapper
from regraft.concepts.spacetime.readers import Readers, readers_of
from regraft.concepts.toy.build import assemble, make_unet
from regraft.concepts.toy.words import make_tokenizer

PROMPT = "a photo of a <my-digit> on a white background"
SHAPES = {"stable-diffusion": (768, 12, 12, 77, 16), "toy": (64, 3, 4, 16, 7)}  # width, layers, heads, places, cross-attention


def pipeline_of(width: int, layers: int, heads: int, places: int, cross: int, device: str) -> Any:
    """A pipeline with random weights whose tower has this shape, and a small U-Net with `cross` layers of cross-attention."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        words = make_tokenizer(Path(folder))
    words.model_max_length = places
    shape = {"num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": places}
    ends = {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    config = CLIPTextConfig(vocab_size=len(words), hidden_size=width, intermediate_size=4 * width, hidden_act="quick_gelu", **shape, **ends)
    small = {"sample_size": 8, "cross_attention_dim": width, "attention_head_dim": 2, "norm_num_groups": 4}
    unet = make_unet() if cross == 7 else UNet2DConditionModel(block_out_channels=(8,) * 4, **small)
    return frozen(assemble(None, CLIPTextModel(config), words, unet).to(device))


@torch.no_grad()
def a_layer_at_a_time(readers: Readers, times: list[float]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values (layers, length, width) of each time, by one pass of the stock encoder for each layer."""
    reading, ((net, _),) = readers.reading(PROMPT), readers.networks.values()
    (tower,) = towers(readers.pipeline)
    slot, put = reading.places[tower.key]["<my-digit>"], [torch.empty(0)]
    inputs = reading.inputs[tower.key]
    hook = tower.encoder.get_input_embeddings().register_forward_hook(
        lambda *_: torch.where(slot[:, None], put[0], inputs)[None].to(inputs)
    )
    ids, found = torch.zeros(1, len(slot), dtype=torch.long, device=inputs.device), []
    for t in times:
        pairs, given = [], net(torch.tensor([t], device=inputs.device))
        for layer in range(net.layers):
            put[0] = given.base[tower.key][0, layer]
            hidden = tower.encoder(ids, output_hidden_states=True).hidden_states[-1][0]
            added = given.strength * normalize(given.bypass[tower.key][0, layer], dim=0) * hidden.norm(dim=-1, keepdim=True)
            norm = tower.encoder.final_layer_norm
            pairs.append((norm(hidden), norm(torch.where(slot[:, None], hidden + added, hidden))))
        found.append((torch.stack([key for key, _ in pairs]), torch.stack([value for _, value in pairs])))
    hook.remove()
    return found


def taken(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Processor seconds on a CPU, seconds of the clock on another device."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    found = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, found


@torch.no_grad()
def measured(shape: str, times: int, runs: int, device: str) -> dict[str, Any]:
    """Medians of the three ways, and how far their contexts lie apart."""
    pipeline = pipeline_of(*SHAPES[shape], device)
    row = rows_of(pipeline, "digit")
    net = Mapper(NeTI().shape(pipeline, row)).requires_grad_(False)
    concept = MapperConcept("<my-digit>", net, row, "digit")
    asked = [1000.0 * i / times for i in range(times)]
    seconds: dict[str, list[float]] = {"a pass a layer": [], "a pass a time": [], "kept": []}
    with together(pipeline, [concept]):
        readers = readers_of(pipeline, "<my-digit>")
        context_of(pipeline, [concept], [PROMPT])  # warm
        for _ in range(runs):
            readers.forget()
            reading = readers.reading(PROMPT)
            spent, slow = taken(lambda: a_layer_at_a_time(readers, asked), device)
            seconds["a pass a layer"].append(spent)
            for way in ("a pass a time", "kept"):
                spent, fast = taken(lambda reading=reading: [readers.at([(reading, t)]) for t in asked], device)
                seconds[way].append(spent)
    apart = max(float((a[i] - b[i][0]).abs().max()) for a, b in zip(slow, fast, strict=True) for i in (0, 1))
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    return {"shape": shape, "layers": net.layers, "times": times, "apart": apart, **medians}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2, help="of denoising, in the shape of Stable Diffusion")
    parser.add_argument("--toy-times", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [
        measured(shape, times, given.runs, given.device) for shape, times in (("toy", given.toy_times), ("stable-diffusion", given.times))
    ]
    holds = True
    for row in rows:
        slow = row["a pass a layer"]
        row |= {"ratio": slow / row["a pass a time"], "ratio_kept": slow / row["kept"]}
        holds &= row["ratio"] >= (3 if row["shape"] == "toy" else 1) and row["ratio_kept"] >= 100 and row["apart"] < 1e-3
        print(
            f"{row['shape']:18} {row['layers']:3} layers x {row['times']:3} times: a pass a layer {slow:7.3f} s,"
            f" a pass a time {row['a pass a time']:7.3f} s (x{row['ratio']:.1f}), kept x{row['ratio_kept']:.0f}, apart {row['apart']:.1e}"
        )
    if given.json:
        threads = torch.get_num_threads()
        given.json.write_text(json.dumps({"device": given.device, "threads": threads, "runs": given.runs, "rows": rows}, indent=1))
    print("holds" if holds else "MISSED")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
