"""xDS: snapshots and protocol sessions (both pure), the gRPC server and its worker processes (I/O).

* `snapshot`: encoded resources with versions; `build` checks references.
* `session`: one stream. `requests` applies ACKs and NACKs, `responses` composes the next response, `ordering`
  keeps make before break, `probe_rollout` decides which clients receive a new version first.
* `server`: all streams. `hub` connects them to snapshots and counts ACKs and NACKs, `push_queue` writes the
  responses, `group` tracks which clients are synced and keeps or drops a node class after its last stream
  closed.
* `workers`: several processes that serve one port, and the control plane's side of them.
* `wire`: generated messages.
"""
