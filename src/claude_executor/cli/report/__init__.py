"""The pages of claude-executor report: figures, panels, and the HTML around them."""
