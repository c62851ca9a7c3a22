"""What the product says, as text files."""

from agent_worker.prompting.templates import prompt, prompt_names, read_prompts

__all__ = ["prompt", "prompt_names", "read_prompts"]
