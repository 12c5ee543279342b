"""Observatory: eight properties of relational tables, measured on the vectors of any encoder."""

from regraft.probe.probes.observatory.aids import Aids
from regraft.probe.probes.observatory.encoder import Encoder, FunctionEncoder, ModelEncoder, StaticEncoder
from regraft.probe.probes.observatory.method import Observation, Observatory
from regraft.probe.probes.observatory.tables import Table

__all__ = ["Aids", "Encoder", "FunctionEncoder", "ModelEncoder", "Observation", "Observatory", "StaticEncoder", "Table"]
