"""A gene: layers from which a model of any depth is made.

As it stands these are the layers of a checkpoint. A method that learns its layers keeps them as a checkpoint of their own, as many layers
as the gene has, with `gene.json` beside the weights; `transformers` opens it as a small model.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint, write
from regraft.errors import InputError
from regraft.grow.depth.stack import LayerStack
from regraft.method import Method
from regraft.output import atomic_directory

FILE = "gene.json"
SCHEMA = 1


@dataclass(frozen=True)
class Gene:
    """Layers that new ones are made of.

    Attributes
    ----------
    stack : the checkpoint whose layers they are.
    facts : what was found in making it, as plain data: importance of layers, the budget, losses.
    before : layers of the model that it came from, if that is not the stack itself.
    """

    stack: LayerStack
    facts: Mapping[str, Any] = field(default_factory=dict)
    before: int | None = None

    @property
    def depth_before(self) -> int:
        return self.stack.depth if self.before is None else self.before

    def save(self, folder: Path, method: Method, source: Checkpoint) -> None:
        """Keep the gene in `folder`, which is written whole or not at all."""
        own = self.stack.checkpoint.path == source.path
        about = {
            "schema": SCHEMA,
            "method": method.name,
            "parameters": asdict(method),  # type: ignore[call-overload]  # every method is a dataclass
            "source": source.source_hash(),
            "before": self.depth_before,
            "facts": dict(self.facts),
            "layers": "source" if own else "own",
        }
        text = (json.dumps(about, indent=1) + "\n").encode()
        if own:  # nothing learned beside facts: no weights to keep
            with atomic_directory(folder, sources=(source.root,)) as temporary:
                (temporary / FILE).write_bytes(text)
        else:
            write(self.stack.checkpoint, folder, tensors={}, files={FILE: text})

    @classmethod
    def load(cls, folder: Path, method: Method, source: Checkpoint) -> "Gene":
        """The gene in `folder`. Raises `InputError`: no gene, one of another method or of another model, a newer format."""
        try:
            about = json.loads((folder / FILE).read_bytes())
            schema, name, made_of = about["schema"], about["method"], about["source"]
            before, facts, layers = int(about["before"]), dict(about["facts"]), about["layers"]
        except FileNotFoundError:
            raise InputError(f"{folder}: not a gene (it has no {FILE}): give a directory that `regraft grow depth --gene` wrote") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / FILE}: cannot be read ({error}): make the gene again") from None
        if schema != SCHEMA:
            raise InputError(f"{folder}: its schema {schema} is not one that this version knows ({SCHEMA})")
        if name != method.name:
            raise InputError(f"{folder}: a gene of {name}, not of {method.name}: choose --method {name}, or another directory")
        if made_of != source.source_hash():
            raise InputError(
                f"{folder}: the gene of another model than {source.path}: give that model, or another directory to keep a new gene in"
            )
        return cls(LayerStack.open(source if layers == "source" else Checkpoint.open(folder)), facts, before)
