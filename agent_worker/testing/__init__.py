"""What a test of a phone agent needs, shipped with it: real LiveKit, a SIP phone, providers' stand-ins."""
