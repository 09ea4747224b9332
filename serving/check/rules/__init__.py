"""The rules, a module for each family.

A new one: declare it in rules.yaml, yield it in its family's module, add a mistake that it finds to the tables of
tests/k8s (mutations.py and its neighbours), and make the page anew: `python -m serving.check.catalog`.
"""
