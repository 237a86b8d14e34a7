"""DIMSE services as user: associations that we ask for, and what is done on them."""
