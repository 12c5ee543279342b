from toys.ontologies import base, change, minilm, ontologies, texts  # noqa: F401
