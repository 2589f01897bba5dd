"""What the simulator has seen of its clients, and its verdict on them."""
