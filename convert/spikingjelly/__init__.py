"""Nets of other frameworks: read as a float plan, quantised to a graph, measured against the original."""
