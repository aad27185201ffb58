"""Entry point of `python -m xds_server.cli`, equal to `shiftplane`."""

from xds_server.cli import main

main(prog_name="shiftplane")
