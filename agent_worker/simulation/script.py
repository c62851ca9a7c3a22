"""What the caller of the demo says, and the person they are put through to."""

from __future__ import annotations

DIALED_NUMBER = "+12015550142"
CALLER_LINES = (
    "Hello, what time do you close on Saturday?",
    "How much is a full service for my bicycle?",
    "Yes, could you put me through to sales please?",
    "I would like to book a service for Monday.",
)
"""The last of them is said to the person."""

PERSON_YES = "Yes, please."
PERSON_LINES = (
    "Hello, this is Sam from sales. What can I do for you?",
    "You are booked in for Monday morning. Goodbye.",
)
