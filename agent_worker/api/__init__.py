"""The control plane's HTTP side: routes, who may call them, and how errors are told."""
