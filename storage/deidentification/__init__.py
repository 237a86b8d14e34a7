"""De-identification by the Basic Application Level Confidentiality Profile and options of it (PS3.15 annex E)."""
