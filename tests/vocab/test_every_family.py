"""A part of the sweep over every class (`benchmarks/vocabulary/families.py`): families of each kind, and those that were once wrong.

Each result is judged by plain `transformers`; what is right of a job is told in `benchmarks/every_family/judge.py`.
"""

import sys
from pathlib import Path

import pytest
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from every_family.classes import every_class
from every_family.jobs import JOBS, run_class

CLASSES = [
    *("LlamaForCausalLM", "GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM", "BartForCausalLM", "BloomForCausalLM"),
    *("Gemma3ForCausalLM", "Gemma4ForCausalLM", "Qwen3MoeForCausalLM", "MambaForCausalLM", "Llama4ForCausalLM", "FalconForCausalLM"),
    *("MllamaForCausalLM", "MoshiForCausalLM", "PhiForCausalLM", "BertForMaskedLM", "RobertaForMaskedLM", "DebertaV2ForMaskedLM"),
    *("DebertaForMaskedLM", "MobileBertForMaskedLM", "AlbertForMaskedLM", "ModernBertForMaskedLM", "ElectraForMaskedLM"),
    *("T5ForConditionalGeneration", "MBartForConditionalGeneration", "MarianMTModel", "M2M100ForConditionalGeneration"),
    *("Gemma3ForConditionalGeneration", "LlavaForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
]


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.mark.parametrize("name", CLASSES)
def test_all_jobs_are_right(name, tmp_path):
    found = run_class(name, every_class()[name], tmp_path, JOBS)
    assert {job: verdict for job, verdict in found.items() if verdict not in ("right", "-")} == {}
