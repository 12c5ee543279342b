"""Probes, one file or folder each. What is dropped here is found by name; nothing else needs to change."""

from regraft.probe.probe import Probe

__all__ = ["Probe"]
