"""Speech and language providers: `registry` turns an agent's `vendor:model` entries into objects."""
