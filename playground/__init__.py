"""The playground: a page to try a served model through the production client.

`python -m playground --server HOST:PORT --model NAME`, or `make playground` for the demo's model.
"""
