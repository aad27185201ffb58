"""The demonstration: simulated model servers, user traffic and prompts, all on one machine.

Nothing here is part of the two programs: the control plane and the collector never import it. Whatever stands
in for a real model server says so (``simulated``) in every place where it could be mistaken for one.
"""
