"""CoRe: a word learned so that its neighbors in a prompt do not notice it."""

from regraft.concepts.methods.core_context_regularization.method import CoreContextRegularization
from regraft.concepts.methods.core_context_regularization.one_prompt import fit_to_prompt

__all__ = ["CoreContextRegularization", "fit_to_prompt"]
