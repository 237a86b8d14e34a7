"""DIMSE services as provider: a guarded front, one association to a thread, and one small module per service."""
