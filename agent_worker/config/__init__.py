"""Agent files, numbers, and which agent takes a call."""
