"""The subcommands of `pacs`, a module for each kind; they read settings, call one function, and print.

What is slow to import is imported by the command that needs it, so that `pacs version` does not wait for a database.
"""
