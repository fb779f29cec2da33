"""The long runs: `python -m experiments` lists them."""

import os

# Deep networks that take turns need more compiled kernels than oneDNN keeps, and it
# would compile them anew in every turn. One network alone does not.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
