r"""A language model without a table of its own: each sequence has random vectors for its symbols, at the input and at the readout.

A `transformers` model: it saves, loads and generates as they do. Around any decoder of that library, whose own table is not used.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModel, GenerationMixin, LlamaConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from regraft.bias.lexinvariant.tables import Rows, check_rows, first_seen, fresh_seeds, keyed_shares, tables
from regraft.errors import ParameterError

READOUT = 0.02  # spread of the readout's start: greater ones predict the symbol that is there


class LexinvariantConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """body : of the decoder, as its own configuration writes it; None: a small Llama by the other numbers (positions are rotary).

    vocab_size : symbols V. share : of symbols that have random rows, decided for each sequence and symbol; 1: lexinvariant, 0: an ordinary
    model, between: semi-lexinvariant. rows : "gaussian", or "orthonormal" where V <= hidden_size. alphabet : what the symbols are, one
    character each, if anything.
    """

    model_type = "lexinvariant"

    def __init__(
        self,
        vocab_size: int = 27,
        hidden_size: int = 64,
        layers: int = 2,
        heads: int = 4,
        context: int = 256,
        share: float = 1.0,
        rows: Rows = "gaussian",
        alphabet: str = "",
        body: dict[str, Any] | None = None,
        **given: Any,
    ) -> None:
        if vocab_size < 2:
            raise ParameterError(f"vocab_size {vocab_size}: give at least 2 symbols")
        if not 0 <= share <= 1:
            raise ParameterError(f"share {share:g}: of symbols with random rows, give 0 to 1")
        if body is None:
            if heads < 1 or hidden_size % heads:
                raise ParameterError(f"hidden_size {hidden_size}: must be a multiple of heads {heads}")
            plain = LlamaConfig(
                vocab_size=1, hidden_size=hidden_size, intermediate_size=4 * hidden_size, num_hidden_layers=layers,
                num_attention_heads=heads, max_position_embeddings=context, pad_token_id=None, bos_token_id=None, eos_token_id=None,
            )  # fmt: skip
            body = plain.to_dict()
        hidden_size = AutoConfig.for_model(body["model_type"], **{k: v for k, v in body.items() if k != "model_type"}).hidden_size
        check_rows(vocab_size, hidden_size, rows)
        self.vocab_size, self.hidden_size, self.share, self.rows = vocab_size, hidden_size, share, rows
        self.layers, self.heads, self.context, self.alphabet, self.body = layers, heads, context, alphabet, body
        super().__init__(**given)

    def get_text_config(self, *_: Any, **__: Any) -> Any:
        """That of the decoder: what a cache is built by."""
        given = dict(self.body)
        return AutoConfig.for_model(given.pop("model_type"), **given)


class LexinvariantLM(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    r"""Logits :math:`\langle G h_t, E_v \rangle` over V symbols, where E (V, d) is drawn for each sequence and is its input table too.

    Nothing learned belongs to a symbol, so a text and its cipher have the same probability, over the draws (`share` 1). `seeds` (n,) say
    which draws: None in training: new ones; else: one by the place in the batch. `tables` (n, V, d) are used as they are.
    """

    config_class = LexinvariantConfig
    base_model_prefix = "body"
    main_input_name = "input_ids"

    def __init__(self, config: LexinvariantConfig) -> None:
        super().__init__(config)
        self.body = AutoModel.from_config(config.get_text_config())  # type: ignore[no-untyped-call]
        self.readout = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size) if config.share < 1 else None
        self.post_init()  # type: ignore[no-untyped-call]
        nn.init.normal_(self.readout.weight, std=READOUT)
        if self.words is not None:
            nn.init.normal_(self.words.weight)
        self.body.set_input_embeddings(nn.Identity())

    @classmethod
    def around(cls, model: PreTrainedModel, *, share: float = 1.0, rows: Rows = "gaussian") -> "LexinvariantLM":
        """A causal language model's body, with random rows for a `share` of its symbols in each sequence; its table stays for the others.

        The readout starts as the identity, so `share` 0 is the model itself. Raises `ParameterError` where its head is not its table.
        """
        table = model.get_input_embeddings().weight
        assert isinstance(table, Tensor)
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if share < 1 and (head is None or head.weight is not table):
            raise ParameterError("a model whose head is not its table: give share 1, or tie them first")
        found = cls(LexinvariantConfig(len(table), share=share, rows=rows, body=model.config.to_dict()))
        names = [name for name, one in model.base_model.named_parameters() if one is table]
        found.body.load_state_dict({name: one for name, one in model.base_model.state_dict().items() if name not in names})
        with torch.no_grad():
            found.readout.weight.copy_(torch.eye(table.shape[1]))
            if found.words is not None:
                found.words.weight.copy_(table)
        return found

    def draw(self, n: int, seeds: Tensor | None = None, share: float | None = None) -> Tensor:
        """Tables (n, V, d) of so many sequences. `share` : another than the configuration's.

        Random rows beside learned ones are brought to the mean length of these.
        """
        given, device = self.config, self.readout.weight.device
        share = given.share if share is None else share
        if self.words is None and share < 1:
            raise ParameterError(f"share {share:g}: this model has learned no rows: build it with a share below 1")
        if seeds is None:
            seeds = fresh_seeds(n, device) if self.training else torch.arange(n, device=device)
        if self.words is None:
            return tables(seeds, given.vocab_size, given.hidden_size, given.rows).to(self.readout.weight.dtype)
        learned = self.words.weight.expand(n, -1, -1)
        if share == 0:
            return learned
        random = tables(seeds, given.vocab_size, given.hidden_size, given.rows).to(learned.dtype)
        random = random * (self.words.weight.detach().norm(dim=1).mean() / given.hidden_size**0.5)
        chosen = keyed_shares(seeds, given.vocab_size) < share
        return torch.where(chosen.unsqueeze(-1), random, learned)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        seeds: Tensor | None = None,
        share: float | None = None,
        tables: Tensor | None = None,
        **given: Any,
    ) -> CausalLMOutputWithPast:
        """As a causal language model: `labels` are shifted inside, -100 is not scored. `given` goes to the decoder."""
        given = {key: value for key, value in given.items() if key not in ("logits_to_keep", "return_dict")}
        if (input_ids < 0).any() or (input_ids >= self.config.vocab_size).any():
            raise ParameterError(f"symbols outside 0 .. {self.config.vocab_size - 1}: this model has {self.config.vocab_size}")
        rows = self.draw(len(input_ids), seeds, share) if tables is None else tables
        inner = rows.gather(1, input_ids.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
        behind = self.body(inputs_embeds=inner, attention_mask=attention_mask, **given)
        logits = self.readout(behind.last_hidden_state) @ rows.mT
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        rest = {key: value for key, value in behind.items() if key not in ("last_hidden_state", "hidden_states")}
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=(behind.last_hidden_state,), **rest)

    @torch.no_grad()
    def log_probs(self, ids: Tensor, *, draws: int = 1, seed: int = 0, share: float | None = None) -> Tensor:
        """Of each next symbol, (n, length, V), nats: probabilities averaged over `draws` tables. Each sequence has draws of its own."""
        if draws < 1:
            raise ParameterError(f"draws {draws}: give at least 1")
        place = torch.arange(len(ids), device=ids.device) * 2**20 + seed * 2**40
        found = [self(ids, seeds=place + one, share=share).logits.log_softmax(-1) for one in range(draws)]
        return torch.stack(found).logsumexp(0) - torch.tensor(float(draws)).log()

    @torch.no_grad()
    def canonical_log_probs(self, ids: Tensor, seed: int = 0) -> Tensor:
        """As `log_probs`, exactly the same for a text and its cipher: the i-th new symbol has the i-th row of one table.

        What falls to symbols not seen so far is divided evenly among them.
        """
        v, ranks = self.config.vocab_size, first_seen(ids)
        by_rank = self(ranks, seeds=torch.full((len(ids),), seed, device=ids.device), share=1.0).logits.log_softmax(-1)
        seen = ranks.cummax(1).values.unsqueeze(-1) + 1  # (n, length, 1): how many symbols so far
        new = torch.arange(v, device=ids.device) >= seen
        rest = by_rank.masked_fill(~new, -torch.inf).logsumexp(-1, keepdim=True) - (v - seen).clamp(min=1).log()
        rank_of = torch.full((len(ids), v), v, device=ids.device).scatter(1, ids, ranks).unsqueeze(1)  # v: never seen
        known = by_rank.gather(-1, rank_of.clamp(max=v - 1).expand(-1, ids.shape[1], -1))
        return torch.where(rank_of < seen, known, rest)


AutoConfig.register("lexinvariant", LexinvariantConfig, exist_ok=True)
