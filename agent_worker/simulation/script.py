"""What the caller of the demo says."""

from __future__ import annotations

DIALED_NUMBER = "+12015550142"
CALLER_LINES = (
    "Hello, what time do you close on Saturday?",
    "How much is a full service for my bicycle?",
    "Yes, could you put me through to sales please?",
    "No, that's all, thank you, goodbye.",
)
