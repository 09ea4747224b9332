"""An embedded TensorFlow Serving: the stock server's flags, protocol and answers, in Python.

Run it with `python -m serving.local --help`; start one in a test with
`serving.local.testing.LocalServer`.
"""
