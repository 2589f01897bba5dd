"""What run, retry and --dry-run show of a bulk job: checks, plan, progress, summary, exit status."""
