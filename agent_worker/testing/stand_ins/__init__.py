"""Loopback servers that speak the providers' own protocols, with settable delays and faults."""

from agent_worker.testing.stand_ins.cartesia import CartesiaStandIn
from agent_worker.testing.stand_ins.deepgram import DeepgramStandIn
from agent_worker.testing.stand_ins.openai import OpenAIStandIn, Rule
from agent_worker.testing.stand_ins.providers import ProviderStandIns
from agent_worker.testing.stand_ins.server import FAULTS, Fault
from agent_worker.testing.stand_ins.sightings import Sighting, Sightings

__all__ = [
    "FAULTS",
    "CartesiaStandIn",
    "DeepgramStandIn",
    "Fault",
    "OpenAIStandIn",
    "ProviderStandIns",
    "Rule",
    "Sighting",
    "Sightings",
]
