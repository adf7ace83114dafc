"""What checks annotations while the tests run; see conftest.py."""

from beartype import BeartypeConf, beartype

# Where a float is expected an int is one too (PEP 484), as everywhere in Python.
checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
