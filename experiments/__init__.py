"""The long runs: `python -m experiments` lists them."""

import os

# Networks that take turns need more compiled kernels than oneDNN keeps by default.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
