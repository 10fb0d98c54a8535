"""Spikegate: spiking vision transformers with adaptive computation, from training to neuromorphic deployment."""

__version__ = "0.2.0"
