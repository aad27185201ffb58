"""The demonstration: simulated model servers, user traffic and prompts, all on one machine.

The control plane and the collector never import this package. A simulated server is labeled ``simulated``
wherever it could be mistaken for a real one.
"""
