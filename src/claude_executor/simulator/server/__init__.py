"""Serves the simulator on sockets, from the command line or beside a test."""
