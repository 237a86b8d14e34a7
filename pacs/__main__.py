"""`python -m pacs`: the command line."""

from __future__ import annotations

from pacs.cli import app

if __name__ == "__main__":
    app(prog_name="pacs")
