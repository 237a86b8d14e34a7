"""Frames from any transfer syntax to samples, behind header checks; foreign streams in worker processes."""
