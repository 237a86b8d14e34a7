"""What every test may use; the fixtures themselves live in `tests/support`, one module per kind."""

pytest_plugins = ["tests.support.servers", "tests.support.archive", "tests.support.commands", "tests.support.indexes", "tests.support.logging", "tests.support.secure"]
