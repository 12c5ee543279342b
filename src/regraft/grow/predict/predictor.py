"""The contract of a weight predictor: its paper's hyper-parameters, and the decoder that they describe.

Enters: settings. Leaves: a `Hypernet` to train (see `training`); what all predictors share is the encoder.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from regraft.errors import ParameterError
from regraft.grow.predict.hypernetwork.decoder import Decoder
from regraft.grow.predict.hypernetwork.normalise import Rule
from regraft.method import Method


class Predictor(Method):
    """A hypernetwork over architecture graphs.

    Returns, by `decoder`, the module that gives tensors of any shape out of node embeddings.

    Attributes
    ----------
    size : "T", "S", "B" or "L" of the paper's table 1; each of `d`, `L`, `H` that is given comes before it.
    d, L, H : width, layers and heads of the graph encoder; d is a multiple of 4 and of H.
    virtual_edges : longest distance between nodes that is told apart. 50 in the training commands, 250 in the data-set generator.
    layer_norm : a norm after the last layer; on in every published command.
    normalise : "fan-in", or "standardised" as the released code has it for language models. INFERRED which of them GPT-2 results used.
    classes : sizes of classifiers and vocabularies that have an embedding of their own.
    use_1d_decoder : scales and biases by a small decoder of their own.
    max_1d : the most channels that such a decoder gives.
    """

    family: ClassVar[str] = "weight-predictor"
    sizes: ClassVar[dict[str, dict[str, int]]]
    decoder_serves_vectors: ClassVar[bool] = True  # whether scales and biases come from the decoder of matrices

    size: Literal["T", "S", "B", "L"] = "T"
    d: Annotated[int | None, Field(ge=4, multiple_of=4)] = None
    L: Annotated[int | None, Field(ge=1)] = None
    H: Annotated[int | None, Field(ge=1)] = None
    virtual_edges: Annotated[int, Field(ge=1, le=254)] = 50
    layer_norm: bool = True
    normalise: Rule = "fan-in"
    classes: tuple[int, ...] = (10, 100, 1000, 32000, 50257, 128256)
    use_1d_decoder: bool = False
    max_1d: Annotated[int, Field(ge=1)] = 2048

    @model_validator(mode="after")
    def _heads_divide(self) -> "Predictor":
        if self.of("d") % self.of("H"):
            raise ParameterError(
                f"{self.name}: d={self.of('d')} is not a multiple of H={self.of('H')}: the encoder splits d among its heads"
            )
        return self

    def of(self, field: str) -> int:
        """A size's hyper-parameter: as given, else as the paper's table has it."""
        given = getattr(self, field)
        return int(self.sizes[self.size][field] if given is None else given)

    @abstractmethod
    def decoder(self) -> Decoder:
        """The decoder of tensors, a fresh `nn.Module`."""
