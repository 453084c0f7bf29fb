"""The budget: what to choose per layer so that the network fits, and the loop that makes it true."""
