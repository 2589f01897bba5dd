"""Programs that the documentation quotes; the tests run them."""
