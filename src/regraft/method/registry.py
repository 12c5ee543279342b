"""Methods by name. A method is found in the file called like it, without importing its neighbours; all of a family by importing its folder.

Enters: `resolve("initializer", "zip-tie", {"norm": "match_script"})`. Leaves: an instance with checked settings, or one line that says what
would be accepted. The command line and the documentation list methods from `list_methods`.
"""

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from regraft.errors import ParameterError
from regraft.method.card import Described, Family
from regraft.method.settings import configure

ROOT = __name__.partition(".")[0]
IMPORTED_AS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # packages that are imported under another name than they are installed

_ALL = [
    Family(
        key="initializer",
        module="vocab.initializers",
        base="Initializer",
        summary="how new rows start, after a model's vocabulary has changed",
        example="regraft adapt MODEL --corpus TEXT --extend 1000 --method {name} --out DIR",
    ),
    Family(
        key="aligner",
        module="align.aligners",
        base="Aligner",
        summary="maps from one space of vectors to another",
        example="regraft align fit X.vec Y.vec --dictionary PAIRS.txt --method {name} --out DIR",
    ),
    Family(
        key="probe",
        module="probe.probes",
        base="Probe",
        summary="what a representation holds",
        example="regraft probe --help",
    ),
    Family(
        key="encoder",
        module="text.encoders",
        base="Encoder",
        summary="how a model as it is turns texts into vectors",
        example="regraft text encode MODEL --method {name} --text TEXT --out vectors.npy",
    ),
    Family(
        key="tuner",
        module="text.tuners",
        base="Tuner",
        summary="how an encoder of texts is trained",
        example="regraft text train MODEL --method {name} --examples FILE --out DIR",
    ),
    Family(
        key="depth-grower",
        module="grow.depth.growers",
        base="DepthGrower",
        summary="how a model gets more or fewer layers",
        example="regraft grow depth MODEL --layers N --method {name} --out DIR",
    ),
    Family(
        key="table",
        module="tables.embeddings",
        base="CompressedEmbedding",
        summary="embedding tables at a fraction of their memory",
        example="regraft tables compare data.csv --label click --methods {name} --out DIR",
    ),
    Family(
        key="expert-grower",
        module="grow.experts.growers",
        base="ExpertGrower",
        summary="how a dense model gets experts",
        example="regraft grow experts MODEL --method {name} --out DIR",
    ),
    Family(
        key="weight-predictor",
        module="grow.predict.predictors",
        base="Predictor",
        summary="hypernetworks that predict the weights of a model that was never trained",
        example="regraft grow hypernet SPACE --data FILE --method {name} --out HYPERNET.safetensors",
    ),
    Family(
        key="guide",
        module="grow.guide.guides",
        base="Guide",
        summary="how a network that would not train is trained beside another one",
        example="regraft grow guide TARGET --guide GUIDE --data DATA --method {name} --out DIR",
    ),
    Family(
        key="width-grower",
        module="grow.width.growers",
        base="WidthGrower",
        summary="how a model gets another width",
        example="regraft grow width MODEL --hidden N --method {name} --out DIR",
    ),
    Family(
        key="prior",
        module="bias.priors",
        base="Prior",
        summary="what a network is given before it learns",
        example="regraft bias compare TASK --methods {name} --out DIR",
    ),
    Family(
        key="fact-model",
        module="graph.facts.models",
        base="FactModel",
        summary="models of the facts of a knowledge graph",
        example="regraft graph facts compare --dataset umls --models {name} --out DIR",
    ),
    Family(
        key="node-embedder",
        module="graph.nodes.embedders",
        base="NodeEmbedder",
        summary="vectors of the nodes of a graph",
        example="regraft graph nodes train edges.txt --method {name} --out DIR",
    ),
    Family(
        key="node-classifier",
        module="graph.classify.classifiers",
        base="NodeClassifier",
        summary="classes of nodes that have categorical values",
        example="regraft graph classify --nodes F --edges F --labels F --method {name} --out DIR",
    ),
    Family(
        key="concept-method",
        module="concepts.methods",
        base="ConceptMethod",
        summary="how a frozen text-to-image model is taught a concept",
        example="regraft concept learn PIPELINE --images DIR --word '<my-cat>' --init cat --method {name} --out DIR",
    ),
    Family(
        key="prompt-steering",
        module="concepts.steering.methods",
        base="PromptSteering",
        summary="how something unwanted is taken out of a prompt for a text-to-image model",
        example="regraft concept draw PIPELINE --prompt TEXT --remove WORDS --steer {name} --out image.png",
    ),
    Family(
        key="embedding-decoder",
        module="concepts.decode.decoders",
        base="EmbeddingDecoder",
        summary="images of the embeddings of a frozen encoder",
        example="regraft concept decode train IMAGES EMBEDDINGS.npy --method {name} --out DIR",
    ),
    Family(
        key="word-model",
        module="text.words.models",
        base="WordModel",
        summary="how vectors of words are learned from plain text",
        example="regraft text words CORPUS --model {name} --out DIR",
    ),
    Family(
        key="class-splitter",
        module="concepts.split.learners",
        base="ClassLearner",
        summary="how a diffusion transformer learns classes that it has never seen",
        example="regraft concept split compare digits --classes 0-5 --new 6-9 --methods {name} --out DIR",
    ),
]
FAMILIES = {family.key: family for family in _ALL}


def resolve(family: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Build the method called `name` with `settings`.

    Raises `ParameterError`: unknown name (with the nearest ones), a missing extra, unknown field, or a value the field refuses.
    """
    slug = name.strip().lower().replace("_", "-")
    found = _alone(_family(family), slug)
    if found is None:
        everyone = {cls.name: cls for cls in members(family)}
        if slug not in everyone:
            near = difflib.get_close_matches(slug, everyone, n=3, cutoff=0.4) or sorted(everyone)
            raise ParameterError(f"unknown {family} '{name}': did you mean {' or '.join(near)}? `regraft methods` lists all of them")
        found = everyone[slug]
    return configure(found, settings or {})


def members(family: str) -> list[type[Described]]:
    """Every method of one family, by name, without those whose extra is missing. Raises `ParameterError` for an unknown family."""
    return everyone(family)[0]


def everyone(family: str) -> tuple[list[type[Described]], list[str]]:
    """Every method of one family, by name, and a line for each module whose extra is not installed."""
    found = _family(family)
    package = _import(found, found.module)
    missing = []
    for module in pkgutil.iter_modules(package.__path__):
        try:
            _import(found, f"{found.module}.{module.name}", module.name.replace("_", "-"))
        except ParameterError as error:
            missing.append(str(error))
    return sorted(_subclasses(getattr(package, found.base)), key=lambda cls: cls.name), missing


def list_methods(family: str | None = None) -> Iterator[type[Any]]:
    """Every method, family by family, by name."""
    for name in [family] if family else FAMILIES:
        yield from members(name)


def _family(key: str) -> Family:
    if key not in FAMILIES:
        raise ParameterError(f"unknown family '{key}': choose one of {', '.join(FAMILIES)}")
    return FAMILIES[key]


def _alone(family: Family, slug: str) -> type[Described] | None:
    """The method `slug` from the file called like it; None if there is no such file, or it holds another."""
    module = f"{family.module}.{slug.replace('-', '_')}"
    if not re.fullmatch(r"[a-z0-9-]+", slug) or importlib.util.find_spec(f"{ROOT}.{module}") is None:
        return None
    _import(family, module, slug)
    base = getattr(_import(family, family.module), family.base)
    return next((cls for cls in _subclasses(base) if cls.name == slug), None)


def _import(family: Family, module: str, name: str = "") -> ModuleType:
    """A module of the family. Raises `ParameterError` where it wants a package that is not installed, and names the extra that has it."""
    try:
        return importlib.import_module(f"{ROOT}.{module}")
    except ModuleNotFoundError as error:
        wanted = (error.name or "").partition(".")[0]
        if wanted in ("", ROOT):
            raise
        raise ParameterError(f"{name or family.key} needs the package '{wanted}': {_install(wanted)}") from None


def _install(package: str) -> str:
    """How to get `package`: by the smallest extra of ours that asks for it, where there is one."""
    wanted = _normal(IMPORTED_AS.get(package, package))
    extras: dict[str, list[str]] = {}
    for line in importlib.metadata.requires(ROOT) or []:
        if asked := re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z0-9-]+)['\"]", line):
            extras.setdefault(asked[2], []).append(_normal(asked[1]))
    having = [extra for extra, packages in extras.items() if wanted in packages and extra not in ("all", "dev")]
    if not having:
        return f"pip install {wanted}"
    return f"pip install 'regraft[{min(having, key=lambda extra: (len(extras[extra]), extra))}]'"


def _normal(package: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _subclasses(root: type[Described]) -> list[type[Described]]:
    """Every concrete class below `root` that is public."""
    pending, found = [root], []
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if not (inspect.isabstract(cls) or cls.__name__.startswith("_")) and hasattr(cls, "summary") and cls not in found:
            found.append(cls)
    return found
