"""Residuals of the tracking energy, one module each: the residual, and its analytic Jacobian."""
