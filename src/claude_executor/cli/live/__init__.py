"""The live display: the panel, plain lines where there is no terminal, and Ctrl-C."""
