"""K-Tokeniser: subwords from an ontology, chosen word by word and sentence by sentence (Hasan et al., 2024).

`open_ontologies` reads the names of concepts, `build` makes a pool of tokenizers of them, `KTokeniser` encodes text with it.
"""

from regraft.tasks.saving import register_encoder
from regraft.vocab.k_tokeniser.build import build
from regraft.vocab.k_tokeniser.coverage import Coverage
from regraft.vocab.k_tokeniser.ontology import Ontology, open_ontologies
from regraft.vocab.k_tokeniser.storage import FOLDER
from regraft.vocab.k_tokeniser.tokeniser import KTokeniser

__all__ = ["Coverage", "KTokeniser", "Ontology", "build", "open_ontologies"]

register_encoder(FOLDER, KTokeniser.from_pretrained)
