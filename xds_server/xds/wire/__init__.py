"""Generated envelope messages of the discovery services; see `protos/`."""
