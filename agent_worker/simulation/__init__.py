"""A caller without a phone: real audio over a simulated line, for the demo, the desk and the tests."""
