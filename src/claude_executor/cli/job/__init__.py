"""Display of a bulk job for run, retry and --dry-run: checks, plan, progress, summary, exit status."""
