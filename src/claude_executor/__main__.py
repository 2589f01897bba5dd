"""``python -m claude_executor``."""

from claude_executor.cli import main

if __name__ == "__main__":
    main()
