"""Steps to the identity of diffusers' own textual-inversion script: how many do we need? One fixture, one judge, the same captions.

The bound: cross-initialization is at the script's final identity in a third of its steps. The script is that of diffusers' examples, in an
environment of its own (without torchvision a stand-in of its one class is put in; digits are mirrored by neither).

    python benchmarks/run.py steps_to_identity --script textual_inversion.py [--python PYTHON] [--steps 300] [--seeds 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from regraft.concepts.concept import load_concept
from regraft.concepts.host.images import to_pil
from regraft.concepts.method import Plan
from regraft.method import resolve
from regraft.reproductions.harness.concepts.digits import HIDDEN, judged, task

BATCH, RATES = 4, (5e-3, 2e-2)
WRAPPER = """
import json, runpy, sys, types
try:
    import torchvision.transforms as transforms
except Exception:
    import importlib.machinery, transformers.image_utils
    from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, DiffusionPipeline, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    transforms = types.ModuleType("torchvision.transforms")
    whole = types.ModuleType("torchvision")
    whole.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    whole.transforms = transforms
    sys.modules["torchvision"], sys.modules["torchvision.transforms"] = whole, transforms
transforms.RandomHorizontalFlip = lambda p: (lambda image: image)
script, captions = sys.argv[1], json.loads(sys.argv[2])
source = open(script).read().replace('if __name__ == "__main__":', f"imagenet_templates_small = {captions!r}\\nif __name__ == '__main__':")
sys.argv = [script, *sys.argv[3:]]
exec(compile(source, script, "exec"), {"__name__": "__main__", "__file__": script})
"""


def peer(python, script, given, steps, rate, seed):
    """The word that diffusers' script learns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        given.lesson.pipeline.save_pretrained(folder / "pipeline")  # in float32: the script trains in the type of the files
        for number, picture in enumerate(to_pil(given.lesson.pictures.images)):
            picture.save(folder / "pictures" / f"{number}.png")
        options = {
            "pretrained_model_name_or_path": folder / "pipeline", "train_data_dir": folder / "pictures", "placeholder_token": "<peer>",
            "initializer_token": given.lesson.init, "resolution": 32, "train_batch_size": BATCH, "max_train_steps": steps,
            "learning_rate": rate, "lr_warmup_steps": 0, "output_dir": folder / "out", "seed": seed, "checkpointing_steps": 10_000,
            "save_steps": 10_000,
        }  # fmt: skip
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        call = [python, "-c", WRAPPER, str(script), json.dumps(given.lesson.captions()), *arguments]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the script failed:\n{done.stderr[-2000:]}")
        return load_concept(folder / "out" / "learned_embeds.safetensors")


def ours(name, given, steps, rate, seed):
    method = resolve("concept-method", name, {"lr": rate, "batch": BATCH, "flip": 0.0})
    return method.learn(given.lesson, Plan(steps=steps, seed=seed)).concept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--script", type=Path, help="diffusers' examples/textual_inversion/textual_inversion.py")
    parser.add_argument("--python", default=sys.executable, help="of an environment with diffusers")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--digits", type=int, nargs="+", default=list(HIDDEN))
    options = parser.parse_args()
    if options.script is None:
        print("diffusers' script was not given (--script): nothing to compare with")
        return 0
    tasks = [task(digit) for digit in options.digits]
    arms = {f"diffusers' script, {options.steps} steps": lambda *a: peer(options.python, options.script, a[0], options.steps, *a[1:])}
    for steps in (options.steps // 3, options.steps // 6, options.steps):
        arms[f"cross-initialization, {steps} steps"] = lambda *a, n=steps: ours("cross-initialization", a[0], n, *a[1:])
    best = {}
    for name, arm in arms.items():
        for rate in RATES:
            found = [judged(given, arm(given, rate, seed), per_coloring=12)
                     for given in tasks for seed in range(options.seeds)]  # fmt: skip
            row = {score: float(np.mean([getattr(one, score).mean() for one in found])) for score in ("identity", "attr", "joint", "loss")}
            print(f"{name:42} lr {rate:.0e}  " + "  ".join(f"{score} {value:.3f}" for score, value in row.items()), flush=True)
            best[name] = max(best.get(name, 0.0), row["identity"])
    bound = next(iter(best.values()))
    third = best[f"cross-initialization, {options.steps // 3} steps"]
    print(f"best rate of each: {third:.3f} in a third of the steps, the script ends at {bound:.3f}")
    return int(third < bound)


if __name__ == "__main__":
    sys.exit(main())
