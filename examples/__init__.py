"""Programs quoted in the documentation and run by the tests."""
