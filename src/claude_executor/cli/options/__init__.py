"""Options of the commands, and the command that resumes an interrupted run."""
