"""Transfers of a live call: hold, ask the person, join the two, or give the caller back to the agent."""
