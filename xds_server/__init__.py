"""The control plane: route specs in, discovery streams to Envoys out."""

__version__ = "0.1.0"
