"""Messages of the xDS services and the worker protocol, generated from `protos/` by `make protos`."""
