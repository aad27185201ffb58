"""Runs the ``mirror-collector`` command line as ``python -m mirror_collector``."""

from mirror_collector.cli import main

if __name__ == "__main__":
    main(prog_name="mirror-collector")
