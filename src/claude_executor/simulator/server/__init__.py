"""The simulator on sockets: from the command line, or in a background thread of a test."""
