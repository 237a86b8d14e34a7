"""DIMSE services, administration, jobs, settings, the command line, and putting it all together."""
