"""The rules, a module for each family.

A new one: declare it in rules.yaml, yield it in its family's module, add a mistake that it finds to a table of
tests/k8s/mutations, and rewrite the page: `python -m serving.check.catalog`.
"""
