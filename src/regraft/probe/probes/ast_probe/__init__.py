"""AST-Probe: how much of the grammar each layer of a frozen model holds, as trees that are rebuilt from its hidden states."""

from regraft.probe.probes.ast_probe.method import ASTProbe

__all__ = ["ASTProbe"]
