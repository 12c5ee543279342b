"""A masked autoencoder over several sizes (SMAE): masked words from the states of each size, and from its [CLS] alone.

Enters: an encoder, the masked-LM checkpoint that it is the body of, windows of texts. Leaves: the loss that trains the body, as
sentence-transformers' trainers take it, with the head and the decoder that are dropped afterwards.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from transformers import AutoModelForMaskedLM, TrainerCallback

from regraft.errors import CheckpointError, ParameterError
from regraft.language.loading import quiet
from regraft.language.model import LanguageModel
from regraft.text.sizes.cutting import copied
from regraft.text.sizes.exits import backbone_of, inner, layers_of, shape_of, states_after
from regraft.text.sizes.masking import masked_words, replaced
from regraft.text.sizes.size import Size

FILE = "autoencoder.safetensors"


class MaskedAutoencoder(nn.Module):
    r"""Mean over sizes (n, d) of :math:`(MLM_{(n, d)} + MAE_{(n, d)}) / 2`.

    MLM: the head on :math:`h^{(n)}_{:d}`, its first layer using its first d input columns alone. MAE: the head's transform maps
    :math:`h^{(n)}_{CLS, :d}` to D; it replaces position 0 of the input of a decoder of one layer (after the embedding layer, INFERRED),
    which reads the text with more words masked and predicts these. Token embeddings and head are shared with the encoder.

    Parameters
    ----------
    head : the masked-LM model around the very backbone of `model`; see `with_head`.
    """

    def __init__(
        self, model: SentenceTransformer, head: Any, sizes: Sequence[Size], *, encoder_rate: float = 0.2, decoder_rate: float = 0.4
    ) -> None:
        super().__init__()
        self.model, self.head, self.sizes = model, head, tuple(sizes)
        self.rates = encoder_rate, decoder_rate
        backbone = backbone_of(model)
        inside, outside = int(head.get_output_embeddings().weight.shape[1]), shape_of(model)[1]
        if inside != outside:
            raise ParameterError(
                f"the head's transform gives {inside} dimensions and the model has {outside}: [CLS] has no place in a decoder"
            )
        self.decoder = copied(backbone, 1)
        self.decoder.set_input_embeddings(backbone.get_input_embeddings())
        self.language = LanguageModel(head, model.tokenizer)

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = next(iter(sentence_features))
        return torch.stack([(mlm + mae) / 2 for mlm, mae in self.terms(features).values()]).mean()

    def terms(self, features: dict[str, Any]) -> dict[Size, tuple[Tensor, Tensor]]:
        """MLM and MAE of each size; one encoder pass, one decoder pass a size."""
        ids, mask, words = (features[name] for name in ("input_ids", "attention_mask", "word_ids"))
        encoder_at, decoder_at = masked_words(words, self.rates)
        tokenizer = inner(self.model).tokenizer
        encoder_ids, decoder_ids = (replaced(ids, at, tokenizer.mask_token_id, len(tokenizer)) for at in (encoder_at, decoder_at))
        given = {"input_ids": encoder_ids, "attention_mask": mask}
        _, states = states_after(self.model, given, [layer for layer, _ in self.sizes])
        found = {}
        for (layer, width), state in zip(self.sizes, states, strict=True):
            rows = torch.cat([state[encoder_at], state[:, 0]])
            logits, transformed = self.predict(rows[:, :width], rows.shape[1])
            count = int(encoder_at.sum())
            mlm = cross_entropy(logits[:count].float(), ids[encoder_at])
            decoded = self.decode(decoder_ids, mask, transformed[count:])
            rebuilt, _ = self.predict(decoded[decoder_at], rows.shape[1])
            found[layer, width] = mlm, cross_entropy(rebuilt.float(), ids[decoder_at])
        return found

    def predict(self, rows: Tensor, full: int) -> tuple[Tensor, Tensor]:
        """Logits (n, vocabulary) of rows (n, d), and what the vocabulary projection reads (n, D).

        Zeros beyond d leave the first d columns of the head's first layer alone, whatever the architecture calls it.
        """
        with _inputs_of(self.language.head) as seen:
            logits = self.language.logits(pad(rows, (0, full - rows.shape[1])))
        return logits, seen[0].reshape(len(rows), -1)

    def decode(self, ids: Tensor, mask: Tensor, first: Tensor) -> Tensor:
        """States (batch, length, D) of the decoder on `ids` with `first` (batch, D) at position 0."""

        def put(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (torch.cat([first[:, None].to(args[0].dtype), args[0][:, 1:]], 1), *args[1:]), kwargs
            states = kwargs["hidden_states"]
            return args, {**kwargs, "hidden_states": torch.cat([first[:, None].to(states.dtype), states[:, 1:]], 1)}

        handle = layers_of(self.decoder)[1][0].register_forward_pre_hook(put, with_kwargs=True)
        try:
            states: Tensor = self.decoder(input_ids=ids, attention_mask=mask).last_hidden_state
        finally:
            handle.remove()
        return states


def with_head(model: SentenceTransformer) -> nn.Module:
    """The masked-LM model that the encoder's checkpoint holds, around the encoder's own backbone.

    Raises `CheckpointError` for a checkpoint without such a head.
    """
    backbone = backbone_of(model)
    path = str(backbone.config.name_or_path)
    try:
        with quiet():
            head, info = AutoModelForMaskedLM.from_pretrained(path, dtype=backbone.dtype, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: no masked-LM model ({' '.join(str(error).split())[:150]})") from None
    if info["missing_keys"]:
        some = ", ".join(sorted(info["missing_keys"])[:3])
        raise CheckpointError(f"{path}: it has no masked-LM head ({some} missing): start from the checkpoint that was pre-trained with one")
    setattr(head, head.base_model_prefix, backbone)
    head.tie_weights()
    head.to(backbone.device)
    found: nn.Module = head
    return found


class Guard(TrainerCallback):
    """Skips steps whose gradients are not finite, and keeps head and decoder beside a state that training goes on from."""

    def __init__(self, loss: MaskedAutoencoder) -> None:
        self.loss, self.skipped = loss, 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [one.grad for one in self.loss.parameters() if one.grad is not None]
        if not all(bool(torch.isfinite(one).all()) for one in gradients):
            self.skipped += 1
            for one in self.loss.parameters():
                one.grad = None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        save_file(self._own(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
        if state.global_step and file.is_file():
            kept, own = load_file(file), dict(self.loss.named_parameters())
            with torch.no_grad():
                for name, tensor in kept.items():
                    own[name].copy_(tensor)

    def _own(self) -> dict[str, Tensor]:
        """Parameters of head and decoder that are not the encoder's."""
        return {name: one.detach().contiguous() for name, one in self.loss.named_parameters() if not name.startswith("model.")}


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()
