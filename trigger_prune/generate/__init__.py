"""Event generators (extra ``generate``: pythia8mc, numba, awkward). The core package never imports this one."""
