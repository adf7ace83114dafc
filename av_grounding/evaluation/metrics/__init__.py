"""Metrics of the field as pure NumPy functions, one module for each task.

Each function states its definition, where the field uses it, and its conventions, because the
same name means different numbers in different papers. Nothing here knows a model or reads a
file; `evaluation.protocols` says which of them make up a published number.
"""
