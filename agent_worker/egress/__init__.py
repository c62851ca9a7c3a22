"""Every HTTP request an agent's configuration can cause: which addresses it may reach, how long and how much."""
