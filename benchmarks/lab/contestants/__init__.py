"""Those who run in the lab: each a script that reads a task on standard input and prints figures."""
