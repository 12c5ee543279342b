"""K-Tokeniser: subwords from an ontology, chosen word by word and sentence by sentence (Hasan et al., 2024)."""
