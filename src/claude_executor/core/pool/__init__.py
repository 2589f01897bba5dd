"""Admission for one pool, that is, for the models that share one set of limits at the API."""
