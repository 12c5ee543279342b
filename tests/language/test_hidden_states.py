"""Hidden states of sequences: each as if it stood alone, whatever batch it came in."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.language.hidden_states import hidden_states
from toys import models

SEQUENCES = [[5, 6, 7], [], [9], list(range(20, 60)), [5, 6, 8]]


@pytest.mark.parametrize("make", [models.llama, models.bert])
def test_states_are_those_of_a_plain_forward_pass_of_each_sequence_alone(make):
    model = make()
    found = dict(hidden_states(model, SEQUENCES, layers=(0, -1), batch_tokens=80))
    assert sorted(found) == [0, 2, 3, 4]  # without ids there are no states
    for number, states in found.items():
        with torch.no_grad():
            plain = model.base_model(input_ids=torch.tensor([SEQUENCES[number]]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(states, torch.stack([plain[0][0], plain[-1][0]]), atol=1e-5, rtol=0)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ParameterError, match=r"--layer 99: the model has hidden states 0 to \d"):
        next(hidden_states(models.llama(), [[5]], layers=(99,)))
