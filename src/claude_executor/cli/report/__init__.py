"""The page of ``claude-executor report``: figures, panels, and the HTML around them."""
