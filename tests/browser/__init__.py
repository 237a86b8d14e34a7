"""OHIF in a real Chromium, against a whole server: what a person would see."""
