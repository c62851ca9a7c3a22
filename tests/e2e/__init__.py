"""Calls from a SIP phone through a real LiveKit server to a worker started as its user starts it."""
