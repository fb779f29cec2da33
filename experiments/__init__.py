"""The long runs behind the figures: `python -m experiments NAME`."""
