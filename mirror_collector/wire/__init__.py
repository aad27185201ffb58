"""Generated messages of the gRPC access log; see `protos/accesslog.proto`."""
