"""The level of the agent's voice: a fixed gain, clipped at full scale."""

from __future__ import annotations

import numpy as np
from livekit import rtc

FULL_SCALE = 32_767


def amplified(frame: rtc.AudioFrame, gain_db: float) -> rtc.AudioFrame:
    """Return the frame louder or quieter by this many dB; the same frame for 0."""
    if gain_db == 0.0:
        return frame
    samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32) * np.float32(10 ** (gain_db / 20))
    np.clip(np.rint(samples, out=samples), -FULL_SCALE - 1, FULL_SCALE, out=samples)
    return rtc.AudioFrame(
        samples.astype(np.int16).tobytes(), frame.sample_rate, frame.num_channels, frame.samples_per_channel
    )
