"""Webhooks: what is told, how it is signed, and the outbox it leaves from."""
