"""The rules: a module that reports them, and a YAML file beside it that declares them.

A new one: declare it in its family, yield it in the module beside, add a mistake that it finds to a table of
tests/k8s/mutations, and rewrite the page: `python -m serving.check.catalog`.
"""
