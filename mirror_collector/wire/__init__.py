"""Generated messages of the access log and of the evidence; see `accesslog` and `evidence` in `protos/`."""
