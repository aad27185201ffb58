"""Generated messages of the access log and the evidence, from `accesslog` and `evidence` in `protos/`."""
