"""The rules, a module for each family. A new one: declare it, yield it, add a mistake to tests/k8s that it finds."""
