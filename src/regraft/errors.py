"""The exception tree. A message says what is wrong, where, and what to do; `exit_code` is what the command line leaves with."""


class RegraftError(Exception):
    """Base of every error regraft raises on purpose."""

    exit_code = 1


class InputError(RegraftError):
    """The user's input or options are at fault: one line, exit code 2."""

    exit_code = 2


class CheckpointError(InputError):
    """A model directory cannot be opened, or its tensors contradict its config."""


class TokenizerError(InputError):
    """A tokenizer is missing, malformed, or cannot be changed the way that was asked."""


class CorpusError(InputError):
    """The text given is missing, empty, or too small for what was asked."""


class OntologyError(InputError):
    """An ontology is missing, empty, in another format or encoding than it says, or clashes with another one."""


class TaskError(InputError):
    """Labelled examples are missing, malformed or too few, or the model can't be fine-tuned on them."""


class EvaluationError(InputError):
    """A model cannot be measured the way that was asked: it has no head for it, or its tokenizer does not fit."""


class ParameterError(InputError):
    """A method or option is unknown, or a value lies outside its range."""


class RowsError(ParameterError, ValueError):
    """Rows that nothing can be learned from, or of another shape than was learned: a `ValueError` too, as scikit-learn expects."""


class RecipeError(InputError):
    """A recipe file does not validate."""


class OutputError(InputError):
    """The output directory is in the way, equals an input, or cannot be written."""
