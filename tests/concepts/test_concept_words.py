"""New words in a pipeline: the same as plain diffusers makes of the file, and nothing left behind."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.concepts.concept import context_of, load_concept, together
from regraft.concepts.host.pipeline import encode, pieces, towers
from regraft.concepts.host.words import check_word, rows_of, slots, spliced
from regraft.concepts.kinds.word import FILE, WordConcept
from regraft.errors import CheckpointError, ParameterError
from toys.pipelines import stable_diffusion, stable_diffusion_xl

PROMPT = "a photo of a <my-cat> on a <my-cat>"


def concept(pipeline, pieces=2, word="<my-cat>"):
    torch.manual_seed(5)
    return WordConcept(word, {tower.key: torch.randn(pieces, tower.width) for tower in towers(pipeline)}, "cat")


def seen(pipeline, *concepts, prompt=PROMPT):
    with together(pipeline, concepts), torch.no_grad():
        return context_of(pipeline, concepts, [prompt])


def test_a_file_of_ours_is_what_plain_diffusers_makes_of_it(tmp_path):
    taught = concept(stable_diffusion(), pieces=3)
    taught.save(tmp_path)
    plain = stable_diffusion()
    plain.load_textual_inversion(str(tmp_path / FILE))
    assert torch.equal(seen(stable_diffusion(), taught).embeds, encode(plain, [PROMPT]).embeds)


def test_both_towers_of_xl_are_what_plain_diffusers_makes_of_them(tmp_path):
    taught = concept(stable_diffusion_xl())
    taught.save(tmp_path)
    plain, rows = stable_diffusion_xl(), load_file(tmp_path / FILE)
    plain.load_textual_inversion(rows["clip_l"], token="<my-cat>", text_encoder=plain.text_encoder, tokenizer=plain.tokenizer)
    plain.load_textual_inversion(rows["clip_g"], token="<my-cat>", text_encoder=plain.text_encoder_2, tokenizer=plain.tokenizer_2)
    found = seen(stable_diffusion_xl(), taught)
    assert torch.equal(found.embeds, encode(plain, [PROMPT]).embeds)


def test_the_pooled_vector_is_that_of_the_prompts_end_not_of_the_new_id():
    pipeline = stable_diffusion_xl()
    taught, tower = concept(pipeline), towers(pipeline)[1]
    with together(pipeline, [taught]), torch.no_grad():
        ids = pieces(pipeline, PROMPT, tower)
        last = tower.encoder(torch.tensor([ids])).last_hidden_state[:, ids.index(pipeline.tokenizer.eos_token_id)]
    assert torch.allclose(seen(pipeline, taught).pooled, tower.encoder.text_projection(last), atol=1e-6)


def test_nothing_is_left_behind():
    pipeline = stable_diffusion_xl()
    before = {name: value.clone() for part in towers(pipeline) for name, value in part.encoder.state_dict().items()}
    words, context = len(pipeline.tokenizer), encode(pipeline, ["a photo of a cat"]).embeds
    seen(pipeline, concept(pipeline), concept(pipeline, pieces=1, word="<my-dog>"), prompt="a <my-cat> and a <my-dog>")
    assert len(pipeline.tokenizer) == words
    assert torch.equal(encode(pipeline, ["a photo of a cat"]).embeds, context)
    after = {name: value for part in towers(pipeline) for name, value in part.encoder.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_several_words_stand_beside_each_other():
    pipeline = stable_diffusion()
    one, two = concept(pipeline), concept(pipeline, pieces=1, word="<my-dog>")
    both = seen(pipeline, one, two, prompt="a <my-cat> on a <my-dog>").embeds
    alone = seen(pipeline, one, prompt="a <my-cat> on a").embeds
    assert torch.equal(both[:, :6], alone[:, :6])  # the tower looks back only


def test_a_word_with_the_rows_of_a_known_one_reads_as_that():
    pipeline = stable_diffusion()
    taught = WordConcept("<my-cat>", rows_of(pipeline, "cat"))
    assert torch.equal(seen(pipeline, taught, prompt="a photo of a <my-cat>").embeds, encode(pipeline, ["a photo of a cat"]).embeds)


def test_gradients_reach_the_rows_alone():
    pipeline = stable_diffusion()
    rows = {"clip_l": torch.nn.Parameter(torch.randn(1, 16))}
    with spliced(pipeline, {"<my-cat>": rows}):
        encode(pipeline, [PROMPT]).embeds.square().sum().backward()
    assert rows["clip_l"].grad.abs().sum() > 0
    assert all(value.grad is None for value in pipeline.text_encoder.parameters())


def test_slots_are_all_places_of_the_word():
    pipeline = stable_diffusion()
    with spliced(pipeline, concept(pipeline).words()):
        assert slots(pipeline, PROMPT, "<my-cat>") == [5, 6, 9, 10]
    with pytest.raises(ParameterError, match="does not hold the word dog"):
        slots(pipeline, "a photo of a cat", "dog")


def test_files_of_others_are_read(tmp_path):
    save_file({"<toy>": torch.ones(16)}, tmp_path / "learned_embeds.safetensors")
    save_file({"emb_params": torch.ones(2, 16)}, tmp_path / "toy-cat.safetensors")
    by_diffusers, by_a1111 = load_concept(tmp_path / "learned_embeds.safetensors"), load_concept(tmp_path / "toy-cat.safetensors")
    assert (by_diffusers.word, by_diffusers.rows["clip_l"].shape) == ("<toy>", (1, 16))
    assert (by_a1111.word, by_a1111.rows["clip_l"].shape) == ("<toy-cat>", (2, 16))
    assert by_a1111.truncated(1).rows["clip_l"].shape == (1, 16)
    mixed = by_diffusers.mixed(WordConcept("<b>", {"clip_l": torch.zeros(1, 16)}), 0.25)
    assert torch.allclose(mixed.rows["clip_l"], torch.full((1, 16), 0.75))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.full((1, 4), float("nan"))}, "finite"),
        ({f"layer{i}": torch.ones(2, 4) for i in range(4)}, "4 tensors"),
    ],
)
def test_what_is_no_word_is_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_concept(tmp_path / "x.safetensors")


def test_a_pickle_is_never_opened(tmp_path):
    (tmp_path / "learned.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="never a pickle"):
        load_concept(tmp_path / "learned.bin")


def test_rows_of_another_width_are_refused_with_the_right_one():
    wrong = WordConcept("<my-cat>", {"clip_l": torch.zeros(1, 12)})
    with pytest.raises(ParameterError, match="width 12; the pipeline's clip_l has 16"):
        seen(stable_diffusion(), wrong)
    with pytest.raises(ParameterError, match="towers are clip_l and clip_g"):
        seen(stable_diffusion_xl(), wrong)


def test_words_and_beginnings_that_cannot_be():
    pipeline = stable_diffusion()
    with pytest.raises(ParameterError, match="knows it already"):
        check_word(pipeline, "cat")
    with pytest.raises(ParameterError, match="without spaces"):
        check_word(pipeline, "my cat")
    with pytest.raises(ParameterError, match="is 6 pieces to this tokenizer"):
        rows_of(pipeline, "kitten", 1)
