"""Fitting the free coefficients of the HLS estimates to reports, and judging the estimates by reports not seen."""
