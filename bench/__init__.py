"""What a caller waits for, measured at the phone's ear: this worker beside a plain LiveKit Agents worker."""
