"""Memory of large images: what a canvas adds over one window, against its accumulators, and what a whole-canvas U-Net would add.

The bound: a canvas of 6 x 6 windows takes no more than one window and its accumulators (four canvases of float32: the state, the sum, the
noise, the result) and a tenth. Each side runs in a process of its own on one thread; memory is the peak above what stood before (Linux).

    python benchmarks/run.py large_images
"""

import json
import subprocess
import sys
import time

import torch

from regraft.concepts.decode.decoder import Plan
from regraft.concepts.decode.decoders.representation_guided_diffusion import RepresentationGuidedDiffusion
from regraft.concepts.decode.large import Canvas, draw_latents
from regraft.concepts.decode.pictures import Pictures
from regraft.concepts.decode.training import built
from regraft.meter import metered

SIDE, DIM, STEPS = 32, 16, 1
SIDES = {"window": 1, "windows, 3 x 3": 3, "windows, 6 x 6": 6, "whole canvas, 6 x 6": 6}


def measure(name: str) -> dict[str, float]:
    torch.set_num_threads(1)
    decoder = RepresentationGuidedDiffusion(channels=(32, 64, 64), width=32, blocks=1)
    pictures = Pictures.of(torch.zeros(1, 3, SIDE, SIDE))
    pipeline = built(decoder, pictures, (DIM,), None, None, Plan().seed)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.eval()
    tiles = SIDES[name]
    draw_latents(pipeline, torch.randn(1, 1, DIM), Canvas(steps=1, batch=1))  # what libraries take once
    with metered(0.001) as cost:
        start = time.process_time()
        if name.startswith("whole"):
            x, tokens = torch.randn(1, 3, tiles * SIDE, tiles * SIDE), torch.randn(1, 1, 32)
            with torch.no_grad():
                for _ in range(STEPS):
                    pipeline.predicted(x, torch.tensor(10), tokens, torch.zeros(1, 1, 32), 4.0)
        else:
            grid = torch.randn(tiles, tiles, DIM)
            draw_latents(pipeline, grid, Canvas(steps=STEPS, stride=SIDE // 2, batch=1))
        seconds = time.process_time() - start
    return {"peak_mb": cost.peak_mb, "seconds": seconds, "canvas_mb": 3 * (tiles * SIDE) ** 2 * 4 / 1e6}


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] in SIDES:
        print(json.dumps(measure(sys.argv[1])))
        return 0
    rows = {}
    for name in SIDES:
        command = [sys.executable, __file__, name]
        runs = [json.loads(subprocess.check_output(command, text=True).splitlines()[-1]) for _ in range(3)]
        rows[name] = sorted(runs, key=lambda row: row["peak_mb"])[1]
        print(f"{name:22} {rows[name]['peak_mb']:8.1f} MB over what stood, canvas {rows[name]['canvas_mb']:.2f} MB", flush=True)
    large = rows["windows, 6 x 6"]
    allowed = 1.1 * (rows["window"]["peak_mb"] + 4 * large["canvas_mb"])
    print(f"one window and four canvases, and a tenth: {allowed:.1f} MB: {'holds' if large['peak_mb'] <= allowed else 'MISSED'}")
    return int(large["peak_mb"] > allowed)


if __name__ == "__main__":
    sys.exit(main())
