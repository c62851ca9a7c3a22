"""Speech and replies without a key or a network: a real recogniser, a real voice, scripted replies."""
