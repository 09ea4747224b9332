"""One page with every table and plot, from a fresh run: `python -m benchmarks.report`, or `make report`."""
