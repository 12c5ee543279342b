"""Embedding tables at a fraction of their memory: trained so from the start, or compressed afterwards, within a budget that is counted."""
