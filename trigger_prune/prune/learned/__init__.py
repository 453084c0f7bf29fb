"""The closed loop around trained bit widths."""
