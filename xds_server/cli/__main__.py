"""`python -m xds_server.cli` is `shiftplane`."""

from xds_server.cli import main

main(prog_name="shiftplane")
