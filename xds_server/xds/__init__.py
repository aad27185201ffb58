"""xDS: the snapshot to serve, the protocol sessions (both pure), the gRPC server and its workers (I/O)."""
